// The CUDA runtime and driver of a GPU that computes nothing.
//
// Memory is the host's, mapped when it is first written; copies and fills are real. A kernel only takes time on its
// stream's clock. Streams are ordered by these clocks, and waiting for one sleeps until its time has come. A capture
// refuses what CUDA refuses. The one kernel with values is nfbench's own clip (see `run_clip`).
#define _GNU_SOURCE
#include "simulated.h"
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// nfbench marks rows of a process that has this symbol as simulated.
const int nfbench_simulated_gpu = 1;

// ------------------------------------------------------------------------------------------------ settings

static int from_control_file(const char *name, char *out, size_t size) {
  const char *path = getenv("SIMULATED_GPU_CONTROL");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) return 0;
  char line[512];
  int there = 0;
  size_t length = strlen(name);
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, name, length) || line[length] != ' ') continue;
    snprintf(out, size, "%s", line + length + 1);
    there = 1;
  }
  fclose(file);
  return there;
}

static int setting(const char *name, char *out, size_t size) {
  if (from_control_file(name, out, size)) return 1;
  char variable[128];
  snprintf(variable, sizeof variable, "SIMULATED_GPU_%s", name);
  for (char *c = variable; *c; c++)
    if (*c >= 'a' && *c <= 'z') *c -= 'a' - 'A';
  const char *value = getenv(variable);
  if (!value) return 0;
  snprintf(out, size, "%s", value);
  return 1;
}

double sim_number(const char *name, double otherwise) {
  char value[128];
  return setting(name, value, sizeof value) ? strtod(value, NULL) : otherwise;
}

void sim_text(const char *name, const char *otherwise, char *out, size_t size) {
  if (!setting(name, out, size)) snprintf(out, size, "%s", otherwise);
}

void sim_card_name(char *out, size_t size) { sim_text("name", "NVIDIA H200", out, size); }
size_t sim_total_memory(void) { return (size_t)sim_number("memory", 150754820096.0); }
int sim_cards(void) { return (int)sim_number("devices", 1); }
int sim_driver_cuda(void) { return (int)sim_number("driver_cuda", CUDART_VERSION); }

void sim_capability(int *major, int *minor) {
  char words[16];
  sim_text("capability", "9.0", words, sizeof words);
  *minor = 0;
  sscanf(words, "%d.%d", major, minor);
}

void sim_shared_path(const char *name, char *out, size_t size) {
  char prefix[200];
  sim_text("shm", "/dev/shm/simulated-gpu", prefix, sizeof prefix);
  snprintf(out, size, "%s-%s", prefix, name);
}

static int tracing(void) {
  static int on = -1;
  if (on < 0) on = getenv("SIMULATED_GPU_TRACE") != NULL;
  return on;
}
#define TRACE(...) \
  do { \
    if (tracing()) fprintf(stderr, "simulated GPU: " __VA_ARGS__), fputc('\n', stderr); \
  } while (0)

void sim_unwritten(const char *name) {
  fprintf(stderr, "simulated GPU: %s was called, and nobody has written it (tests/simulated_gpu)\n", name);
  abort();
}

long long sim_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// ------------------------------------------------------------------------------------------------ cards

void sim_uuid(int card, unsigned char out[16]) {
  // the setting `uuid` is a number of the test's own, so that two tests at once never take the same card's lock
  unsigned long long test = (unsigned long long)sim_number("uuid", 1);
  memset(out, 0, 16);
  memcpy(out, &test, sizeof test);
  out[14] = 0x5f;
  out[15] = (unsigned char)card;
}

void sim_uuid_words(int card, const char *prefix, char out[64]) {
  unsigned char u[16];
  sim_uuid(card, u);
  int n = snprintf(out, 64, "%s-", prefix);
  for (int i = 0; i < 16; i++) n += snprintf(out + n, 64 - n, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
}

static int visible[MAX_DEVICES], visible_count = -1;

static int card_called(const char *words) {
  char *end;
  long index = strtol(words, &end, 10);
  if (end != words && !*end) return index >= 0 && index < sim_cards() ? (int)index : -1;
  for (int card = 0; card < sim_cards(); card++) {
    char uuid[64];
    sim_uuid_words(card, strncmp(words, "MIG", 3) ? "GPU" : "MIG", uuid);
    if (!strncasecmp(uuid, words, strlen(words))) return card;
  }
  return -1;
}

// The cards that CUDA_VISIBLE_DEVICES leaves; as in CUDA an entry that names none ends the list.
static int device_count(void) {
  if (visible_count >= 0) return visible_count;
  int count = 0;
  const char *wanted = getenv("CUDA_VISIBLE_DEVICES");
  if (!wanted) {
    for (; count < sim_cards(); count++) visible[count] = count;
  } else {
    char list[1024], *rest;
    snprintf(list, sizeof list, "%s", wanted);
    for (char *one = strtok_r(list, ", ", &rest); one; one = strtok_r(NULL, ", ", &rest)) {
      int card = card_called(one);
      if (card < 0) break;
      visible[count++] = card;
    }
  }
  return visible_count = count;
}

static _Thread_local int current;

// ------------------------------------------------------------------------------------------------ errors

static _Thread_local cudaError_t last_error;
static long long launches;

static cudaError_t failed(cudaError_t error) {
  if (error) last_error = error;
  return error;
}

// What keeps every call from working: `init_error` is 35 for a driver that is too old, 802 for one not yet ready.
static cudaError_t no_device(void) {
  int error = (int)sim_number("init_error", 0);
  if (error) return (cudaError_t)error;
  return device_count() ? cudaSuccess : cudaErrorNoDevice;
}

// From launch number `fail_after` on every call answers `fail_with`, as after an illegal address; it never goes away.
static cudaError_t sticky(void) {
  static cudaError_t error;
  if (!error) {
    double after = sim_number("fail_after", -1);
    if (after >= 0 && launches > after) error = (cudaError_t)(int)sim_number("fail_with", cudaErrorIllegalAddress);
  }
  return error;
}

#define RETURN_IF(call) \
  do { \
    cudaError_t error_ = (call); \
    if (error_) return failed(error_); \
  } while (0)
#define ENTER() RETURN_IF(no_device()); RETURN_IF(sticky())

typedef struct { int code; const char *name, *words; } Word;
static const Word WORDS[] = {
  {0, "cudaSuccess", "no error"},
  {1, "cudaErrorInvalidValue", "invalid argument"},
  {2, "cudaErrorMemoryAllocation", "out of memory"},
  {9, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
  {35, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
  {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
  {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
  {400, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
  {401, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
  {600, "cudaErrorNotReady", "device not ready"},
  {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
  {719, "cudaErrorLaunchFailure", "unspecified launch failure"},
  {802, "cudaErrorSystemNotReady", "system not yet initialized"},
  {900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
  {907, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"},
};
static const Word *word_of(int code) {
  static const Word unknown = {999, "cudaErrorUnknown", "unknown error"};
  for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
    if (WORDS[i].code == code) return &WORDS[i];
  return &unknown;
}

// torch puts these words into the message of its AcceleratorError
const char *cudaGetErrorString(cudaError_t e) { return word_of(e)->words; }
// kineto and Triton name errors by it
const char *cudaGetErrorName(cudaError_t e) { return word_of(e)->name; }
// torch clears an error that it handles itself (out of memory, not ready) by reading it
cudaError_t cudaGetLastError(void) {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
// what torch checks after each launch of its own
cudaError_t cudaPeekAtLastError(void) { return last_error; }

// ------------------------------------------------------------------------------------------------ the ledger

Holder *sim_holders(void) {
  static Holder *all;
  if (all) return all;
  char path[256];
  sim_shared_path("ledger", path, sizeof path);
  int file = open(path, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, MAX_PROCESSES * sizeof(Holder))) abort();
  all = mmap(NULL, MAX_PROCESSES * sizeof(Holder), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  return all;
}

int sim_alive(int pid) { return pid && (kill(pid, 0) == 0 || errno == EPERM); }

// This process's line in the ledger; it begins with what a context takes of the card.
static Holder *holder_of(int device) {
  static Holder *mine[MAX_DEVICES];
  int card = visible[device];
  if (mine[card] && mine[card]->pid == getpid()) return mine[card];
  Holder *all = sim_holders();
  for (int i = 0; i < MAX_PROCESSES; i++) {
    int before = all[i].pid;
    if (sim_alive(before) || !__sync_bool_compare_and_swap(&all[i].pid, before, getpid())) continue;
    all[i].card = card;
    all[i].used = (long long)sim_number("context", 500e6);
    return mine[card] = &all[i];
  }
  abort();
}

// `other_process` are bytes that another process holds.
long long sim_used(int card) {
  Holder *all = sim_holders();
  long long sum = (long long)sim_number("other_process", 0);
  for (int i = 0; i < MAX_PROCESSES; i++)
    if (all[i].card == card && sim_alive(all[i].pid)) sum += all[i].used;
  return sum;
}

static int take(int device, size_t bytes) {
  if (sim_used(visible[device]) + (long long)bytes > (long long)sim_total_memory()) return 0;
  __sync_fetch_and_add(&holder_of(device)->used, (long long)bytes);
  return 1;
}
static void give_back(int device, size_t bytes) { __sync_fetch_and_sub(&holder_of(device)->used, (long long)bytes); }

// ------------------------------------------------------------------------------------------------ streams and graphs

typedef enum { KERNEL, COPY, FILL, CLIP } NodeKind;
typedef struct {
  NodeKind kind;
  void *target;
  const void *source;
  size_t bytes; // of a clip: units
  int value;
  long long arguments[10]; // of a clip
} Node;
typedef struct {
  Node *nodes;
  size_t count, room;
  int mode;
  unsigned long long id;
} Graph;
typedef struct {
  long long ready; // when all that was launched on it has ended, on `sim_now`'s clock
  Graph *capture;
  int begins_capture, priority;
  unsigned long long id;
} Stream;
typedef struct {
  long long ready;
  int recorded;
  unsigned flags;
  Graph *capture;
} Event;

enum { MAX_STREAMS = 65536 };
static Stream legacy[MAX_DEVICES], *streams[MAX_STREAMS];
static atomic_int stream_count, global_captures;
static atomic_ullong next_id = 1;
static _Thread_local enum cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

static Stream *stream_of(cudaStream_t stream) { return (uintptr_t)stream <= 2 ? &legacy[current] : (Stream *)stream; }

static void advance(Stream *stream, long long duration) {
  long long now = sim_now();
  if (stream->ready < now) stream->ready = now;
  stream->ready += duration;
}

static void wait_until(long long ready) {
  for (long long left; (left = ready - sim_now()) > 0;) {
    struct timespec pause = {left / 1000000000, left % 1000000000};
    if (left > 50000) nanosleep(&pause, NULL);
  }
}

static void wait_for_all(void) {
  wait_until(legacy[current].ready);
  for (int i = 0; i < stream_count; i++) wait_until(streams[i]->ready);
}

// What waits or allocates is refused while any stream captures in the global mode, unless the thread asked for less.
static cudaError_t forbidden_in_capture(void) {
  int forbidden = atomic_load(&global_captures) && capture_mode == cudaStreamCaptureModeGlobal;
  return forbidden ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

static long long launch_time(void) {
  static long long time = -1;
  if (time < 0) time = (long long)sim_number("launch_ns", 2000);
  return time;
}

static void add_node(Graph *graph, Node node) {
  if (graph->count == graph->room) {
    graph->room = graph->room ? 2 * graph->room : 256;
    graph->nodes = realloc(graph->nodes, graph->room * sizeof(Node));
  }
  graph->nodes[graph->count++] = node;
}

static void fill(void *target, int value, size_t bytes);
static void run_clip(size_t units, const long long *arguments);

static void run(const Node *node) {
  switch (node->kind) {
    case COPY: memmove(node->target, node->source, node->bytes); break;
    case FILL: fill(node->target, node->value, node->bytes); break;
    case CLIP: launches++; if (node->bytes <= 4096) run_clip(node->bytes, node->arguments); break;
    case KERNEL: launches++; break;
  }
}

static void submit(cudaStream_t handle, Node node, long long duration) {
  Stream *stream = stream_of(handle);
  if (stream->capture) {
    add_node(stream->capture, node);
    return;
  }
  run(&node);
  advance(stream, duration);
}

void sim_launch(void *stream) { submit(stream, (Node){.kind = KERNEL}, launch_time()); }

static int on_device(const void *at);
static void copy(void *target, const void *source, size_t bytes, cudaStream_t stream) {
  long long duration = launch_time() + (long long)(bytes / 100); // 100 bytes a nanosecond
  // activations hold nothing, and the pages that moving them would touch are the host's memory
  if (bytes > (16 << 20) && on_device(target) && on_device(source)) bytes = 0;
  submit(stream, (Node){.kind = COPY, .target = target, .source = source, .bytes = bytes}, duration);
}
static void set(void *target, int value, size_t bytes, cudaStream_t stream) {
  submit(stream, (Node){.kind = FILL, .target = target, .value = value, .bytes = bytes}, launch_time());
}

// ------------------------------------------------------------------------------------------------ memory

typedef struct {
  uintptr_t at;
  size_t bytes;
  int device, pinned;
} Block;
static Block *blocks; // sorted by address
static size_t block_count, block_room;
static pthread_mutex_t block_lock = PTHREAD_MUTEX_INITIALIZER;

// The number of blocks that begin at or before the address.
static size_t blocks_up_to(uintptr_t at) {
  size_t low = 0, high = block_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (blocks[middle].at <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void add_block(void *at, size_t bytes, int device, int pinned) {
  pthread_mutex_lock(&block_lock);
  if (block_count == block_room) {
    block_room = block_room ? 2 * block_room : 1024;
    blocks = realloc(blocks, block_room * sizeof(Block));
  }
  size_t i = blocks_up_to((uintptr_t)at);
  memmove(blocks + i + 1, blocks + i, (block_count++ - i) * sizeof(Block));
  blocks[i] = (Block){(uintptr_t)at, bytes, device, pinned};
  pthread_mutex_unlock(&block_lock);
}

static int find_block(const void *at, Block *out, int remove) {
  pthread_mutex_lock(&block_lock);
  size_t i = blocks_up_to((uintptr_t)at);
  int inside = i && (uintptr_t)at < blocks[i - 1].at + blocks[i - 1].bytes;
  if (inside) {
    *out = blocks[i - 1];
    if (remove) memmove(blocks + i - 1, blocks + i, (block_count-- - i) * sizeof(Block));
  }
  pthread_mutex_unlock(&block_lock);
  return inside;
}

static int on_device(const void *at) {
  Block block;
  return find_block(at, &block, 0) && !block.pinned;
}

static size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

static cudaError_t map_block(void **out, size_t bytes, int pinned) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return cudaErrorMemoryAllocation;
  add_block(at, bytes, current, pinned);
  *out = at;
  return cudaSuccess;
}

// torch's caching allocator and Triton ask here; on an error torch empties its cache, asks again, then raises.
static cudaError_t device_malloc(void **out, size_t bytes) {
  ENTER();
  RETURN_IF(forbidden_in_capture());
  size_t size = round_up(bytes ? bytes : 1, 2 << 20); // the driver hands out pages of 2 MiB
  if (!take(current, size)) {
    TRACE("out of memory: %zu bytes", bytes);
    return failed(cudaErrorMemoryAllocation);
  }
  RETURN_IF(map_block(out, size, 0));
  return cudaSuccess;
}

static cudaError_t free_block(void *at) {
  Block block;
  if (!at) return cudaSuccess;
  if (!find_block(at, &block, 1) || block.at != (uintptr_t)at) return failed(cudaErrorInvalidValue);
  if (!block.pinned) give_back(block.device, block.bytes);
  munmap(at, block.bytes);
  return cudaSuccess;
}

// Large zeros give the pages back to the host instead of writing them, or a batch of 4096 would fill its memory.
static void fill(void *target, int value, size_t bytes) {
  uintptr_t first = round_up((uintptr_t)target, 4096), last = ((uintptr_t)target + bytes) / 4096 * 4096;
  Block block;
  if (value || bytes < (1 << 20) || !find_block(target, &block, 0) || block.pinned) {
    memset(target, value, bytes);
    return;
  }
  memset(target, 0, first - (uintptr_t)target);
  madvise((void *)first, last - first, MADV_DONTNEED);
  memset((void *)last, 0, (uintptr_t)target + bytes - last);
}

// all that torch's caching allocator takes of the card, in segments of 2 MiB and more
cudaError_t cudaMalloc(void **out, size_t bytes) { return device_malloc(out, bytes); }

// cudaFree waits for the device; torch relies on it when it gives its cache back
cudaError_t cudaFree(void *at) {
  if (!at) return cudaSuccess; // how some libraries make a context
  RETURN_IF(forbidden_in_capture());
  ENTER();
  wait_for_all();
  return free_block(at);
}

// pinned host memory: torch's data loaders and non_blocking copies
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
  ENTER();
  RETURN_IF(forbidden_in_capture());
  RETURN_IF(map_block(out, round_up(bytes ? bytes : 1, 4096), 1));
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void **out, size_t bytes) { return cudaHostAlloc(out, bytes, 0); }
// when torch empties its cache of pinned memory
cudaError_t cudaFreeHost(void *at) { return free_block(at); }

// torch.cuda.mem_get_info and the words of an OutOfMemoryError: other processes' bytes count as used
cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
  ENTER();
  holder_of(current);
  long long used = sim_used(visible[current]);
  *total = sim_total_memory();
  *left = used > (long long)*total ? 0 : *total - used;
  return cudaSuccess;
}

// a copy that has ended when it returns; no stream may capture
cudaError_t cudaMemcpy(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind) {
  ENTER();
  RETURN_IF(forbidden_in_capture());
  wait_until(legacy[current].ready);
  copy(target, source, bytes, NULL);
  return cudaSuccess;
}

// a capture takes addresses, so pageable memory, which may move, is refused in it
cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  ENTER();
  Block block;
  int captured = stream_of(stream)->capture != NULL;
  if (captured && (!find_block(target, &block, 0) || !find_block(source, &block, 0)))
    return failed(cudaErrorStreamCaptureUnsupported);
  copy(target, source, bytes, stream);
  return cudaSuccess;
}

// a copy between layouts whose rows are far apart
cudaError_t cudaMemcpy2DAsync(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
  ENTER();
  for (size_t row = 0; row < height; row++)
    copy((char *)target + row * target_pitch, (const char *)source + row * source_pitch, width, stream);
  return cudaSuccess;
}

// from card to card: both are this process's memory here
cudaError_t cudaMemcpyPeerAsync(void *target, int to, const void *source, int from, size_t bytes, cudaStream_t stream) {
  ENTER();
  copy(target, source, bytes, stream);
  return cudaSuccess;
}

// torch.zeros and zero_ on contiguous memory, ordered like a kernel
cudaError_t cudaMemset(void *target, int value, size_t bytes) {
  ENTER();
  set(target, value, bytes, NULL);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) {
  ENTER();
  set(target, value, bytes, stream);
  return cudaSuccess;
}

// torch asks whether memory is pinned, and on which device an address lies
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *at) {
  Block block;
  memset(out, 0, sizeof *out);
  if (!find_block(at, &block, 0)) {
    out->type = cudaMemoryTypeUnregistered;
    out->device = cudaInvalidDeviceId;
    return cudaSuccess;
  }
  out->type = block.pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  out->device = block.device;
  out->devicePointer = (void *)at;
  out->hostPointer = block.pinned ? (void *)at : NULL;
  return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ devices

// torch.cuda.is_available() is a count above 0 without an error
cudaError_t cudaGetDeviceCount(int *count) {
  *count = 0;
  RETURN_IF(no_device());
  *count = device_count();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
  RETURN_IF(no_device());
  *device = current;
  return cudaSuccess;
}
// the first call makes the context, which takes memory
cudaError_t cudaSetDevice(int device) {
  RETURN_IF(no_device());
  if (device < 0 || device >= device_count()) return failed(cudaErrorInvalidDevice);
  current = device;
  holder_of(device);
  return cudaSuccess;
}

// of an H200, but for what settings say; torch's kernels take their launch shapes from these
static int attribute(int which, int device) {
  int major, minor;
  sim_capability(&major, &minor);
  switch (which) {
    case cudaDevAttrComputeCapabilityMajor: return major;
    case cudaDevAttrComputeCapabilityMinor: return minor;
    case cudaDevAttrMultiProcessorCount: return (int)sim_number("sms", 132);
    case cudaDevAttrWarpSize: return 32;
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY: return 1024;
    case cudaDevAttrMaxBlockDimZ: return 64;
    case cudaDevAttrMaxGridDimX: return 2147483647;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock: return 49152;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return 232448;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return 233472;
    case cudaDevAttrReservedSharedMemoryPerBlock: return 1024;
    case cudaDevAttrTotalConstantMemory:
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: return 65536;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return 2048;
    case cudaDevAttrMaxBlocksPerMultiprocessor: return 32;
    case cudaDevAttrClockRate: return 1980000;
    case cudaDevAttrMemoryClockRate: return 3201000;
    case cudaDevAttrGlobalMemoryBusWidth: return 6144;
    case cudaDevAttrL2CacheSize: return 62914560;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrCanMapHostMemory:
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: return 1;
    case cudaDevAttrPciBusId: return 0x18 + visible[device];
    default: return 0; // a feature that this card lacks
  }
}

// asked one by one where all the properties would be too slow
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device) {
  ENTER();
  *value = attribute((int)which, device);
  return cudaSuccess;
}

// torch keeps them for as long as the process lives, Inductor and nfbench read them
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device) {
  ENTER();
  if (device < 0 || device >= device_count()) return failed(cudaErrorInvalidDevice);
  memset(out, 0, sizeof *out);
  sim_card_name(out->name, sizeof out->name);
  sim_uuid(visible[device], (unsigned char *)out->uuid.bytes);
  out->totalGlobalMem = sim_total_memory();
  out->major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  out->minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
  out->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount, device);
  out->warpSize = 32;
  out->maxThreadsPerBlock = out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024;
  out->maxThreadsDim[2] = 64;
  out->maxGridSize[0] = 2147483647;
  out->maxGridSize[1] = out->maxGridSize[2] = 65535;
  out->maxThreadsPerMultiProcessor = 2048;
  out->maxBlocksPerMultiProcessor = 32;
  out->sharedMemPerBlock = 49152;
  out->sharedMemPerBlockOptin = 232448;
  out->sharedMemPerMultiprocessor = 233472;
  out->reservedSharedMemPerBlock = 1024;
  out->regsPerBlock = out->regsPerMultiprocessor = 65536;
  out->totalConstMem = 65536;
  out->memPitch = 2147483647;
  out->textureAlignment = 512;
  out->texturePitchAlignment = 32;
  out->memoryBusWidth = 6144;
  out->l2CacheSize = 62914560;
  out->pciBusID = 0x18 + visible[device];
  out->asyncEngineCount = 3;
  out->canMapHostMemory = out->concurrentKernels = out->ECCEnabled = out->unifiedAddressing = out->managedMemory = 1;
  out->streamPrioritiesSupported = out->computePreemptionSupported = out->cooperativeLaunch = 1;
  out->hostRegisterSupported = out->memoryPoolsSupported = out->clusterLaunch = 1;
  return cudaSuccess;
}

// by the bus torch finds the card in NVML
cudaError_t cudaDeviceGetPCIBusId(char *out, int size, int device) {
  ENTER();
  snprintf(out, size, "0000:%02X:00.0", 0x18 + visible[device]);
  return cudaSuccess;
}
// torch compares both with what it was built for
cudaError_t cudaDriverGetVersion(int *version) {
  *version = sim_driver_cuda();
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
// torch copies between cards directly where it is 1
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  *can = 1;
  return cudaSuccess;
}
// torch makes its pools of streams from the greatest to the least, which are numbers at or below 0
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
// torch.cuda.synchronize: all streams have ended; an error of an earlier launch comes out here
cudaError_t cudaDeviceSynchronize(void) {
  ENTER();
  RETURN_IF(forbidden_in_capture());
  wait_for_all();
  return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ streams and events

static cudaError_t new_stream(cudaStream_t *out, int priority) {
  ENTER();
  Stream *stream = calloc(1, sizeof *stream);
  stream->priority = priority;
  stream->id = next_id++;
  int place = stream_count;
  if (place == MAX_STREAMS) abort();
  streams[place] = stream;
  stream_count++;
  *out = (cudaStream_t)stream;
  return cudaSuccess;
}
// torch makes pools of 32 streams and never destroys them
cudaError_t cudaStreamCreate(cudaStream_t *out) { return new_stream(out, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) { return new_stream(out, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority) { return new_stream(out, priority); }
// its clock is still looked at by cudaDeviceSynchronize, so it stays
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return cudaSuccess; }
// as it was given
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
  *priority = stream_of(stream)->priority;
  return cudaSuccess;
}
// all that was launched on the stream has ended; refused while it captures
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ENTER();
  RETURN_IF(stream_of(stream)->capture ? cudaErrorStreamCaptureUnsupported : forbidden_in_capture());
  wait_until(stream_of(stream)->ready);
  return cudaSuccess;
}
// ready, or the error NotReady, which torch then clears
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  ENTER();
  RETURN_IF(stream_of(stream)->capture ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
  return stream_of(stream)->ready <= sim_now() ? cudaSuccess : failed(cudaErrorNotReady);
}
// a stream that waits for an event of a capture joins that capture
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t waited, unsigned flags) {
  ENTER();
  Event *event = (Event *)waited;
  Stream *stream = stream_of(handle);
  if (event->capture) {
    if (!stream->capture) stream->capture = event->capture;
  } else if (event->recorded && stream->ready < event->ready) {
    stream->ready = event->ready;
  }
  return cudaSuccess;
}
// torch frees pinned memory by such calls; in a graph they are nodes without work here
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  ENTER();
  if (stream_of(stream)->capture) sim_launch(stream);
  else function(data);
  return cudaSuccess;
}

// torch's events keep no time unless enable_timing asks for it
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
  ENTER();
  Event *event = calloc(1, sizeof *event);
  event->flags = flags;
  *out = (cudaEvent_t)event;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  free(event);
  return cudaSuccess;
}
// it marks the end of all that was launched on the stream so far
cudaError_t cudaEventRecord(cudaEvent_t recorded, cudaStream_t handle) {
  ENTER();
  Event *event = (Event *)recorded;
  Stream *stream = stream_of(handle);
  event->capture = stream->capture;
  event->recorded = !stream->capture;
  if (!stream->capture) {
    advance(stream, 0);
    event->ready = stream->ready;
  }
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) { return cudaEventRecord(event, stream); }
// the host waits for the mark; one of a capture has no time to wait for
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  ENTER();
  Event *event = (Event *)handle;
  if (event->capture) return failed(cudaErrorCapturedEvent);
  wait_until(event->ready);
  return cudaSuccess;
}
// the caching allocator frees what another stream used once its event is ready
cudaError_t cudaEventQuery(cudaEvent_t handle) {
  ENTER();
  Event *event = (Event *)handle;
  if (event->capture) return failed(cudaErrorCapturedEvent);
  return !event->recorded || event->ready <= sim_now() ? cudaSuccess : failed(cudaErrorNotReady);
}
// milliseconds between two timed marks that have both been reached, else an error
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  ENTER();
  Event *first = (Event *)from, *last = (Event *)to;
  int timed = !((first->flags | last->flags) & cudaEventDisableTiming);
  if (!timed || !first->recorded || !last->recorded) return failed(cudaErrorInvalidResourceHandle);
  if (first->ready > sim_now() || last->ready > sim_now()) return failed(cudaErrorNotReady);
  *milliseconds = (float)((last->ready - first->ready) / 1e6);
  return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ captures and graphs

// torch allocates and waits inside of a capture where it has asked for the relaxed mode
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
  enum cudaStreamCaptureMode before = capture_mode;
  capture_mode = *mode;
  *mode = before;
  return cudaSuccess;
}
// from here on launches on the stream are noted and not run; the default stream cannot capture
cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode mode) {
  ENTER();
  Stream *stream = stream_of(handle);
  if (stream == &legacy[current]) return failed(cudaErrorStreamCaptureUnsupported);
  if (stream->capture) return failed(cudaErrorIllegalState);
  Graph *graph = calloc(1, sizeof *graph);
  graph->id = next_id++;
  graph->mode = mode;
  stream->capture = graph;
  stream->begins_capture = 1;
  if (mode == cudaStreamCaptureModeGlobal) global_captures++;
  return cudaSuccess;
}
// the stream that began it ends it, and those that joined are free again
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *out) {
  Stream *stream = stream_of(handle);
  Graph *graph = stream->capture;
  if (!graph || !stream->begins_capture) return failed(cudaErrorIllegalState);
  if (graph->mode == cudaStreamCaptureModeGlobal) global_captures--;
  stream->begins_capture = 0;
  for (int i = 0; i < stream_count; i++)
    if (streams[i]->capture == graph) streams[i]->capture = NULL;
  *out = (cudaGraph_t)graph;
  return cudaSuccess;
}
// torch asks before all that a capture forbids
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
  *status = stream_of(stream)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
// torch reads the id, by which its allocator tells captures apart, and the count of nodes that the stream depends on
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **dependencies,
                                     const cudaGraphEdgeData **edges, size_t *count) {
  Graph *capture = stream_of(stream)->capture;
  cudaStreamIsCapturing(stream, status);
  if (id) *id = capture ? capture->id : 0;
  if (graph) *graph = (cudaGraph_t)capture;
  if (dependencies) *dependencies = NULL;
  if (edges) *edges = NULL;
  if (count) *count = 0;
  return cudaSuccess;
}
// the graph as it is now, to be launched many times
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags) {
  Graph *copy = malloc(sizeof *copy);
  *copy = *(Graph *)graph;
  copy->nodes = malloc((copy->count + 1) * sizeof(Node));
  memcpy(copy->nodes, ((Graph *)graph)->nodes, copy->count * sizeof(Node));
  *out = (cudaGraphExec_t)copy;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiate(out, graph, flags);
}
// inside a graph launches follow each other faster
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  ENTER();
  Graph *graph = (Graph *)executable;
  for (size_t i = 0; i < graph->count; i++) run(&graph->nodes[i]);
  advance(stream_of(stream), (long long)graph->count * launch_time() / 2);
  return cudaSuccess;
}
// torch counts the nodes to warn of an empty graph
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
  if (!nodes) *count = ((Graph *)graph)->count;
  return cudaSuccess;
}
static cudaError_t free_graph(Graph *graph) {
  free(graph->nodes);
  free(graph);
  return cudaSuccess;
}
// torch destroys the graph once it is instantiated, and what it launches with the CUDAGraph
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return free_graph((Graph *)graph); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return free_graph((Graph *)graph); }

// ------------------------------------------------------------------------------------------------ kernels

// each kernel of torch's own; a shape that no card has is refused, as torch's checks expect
cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  ENTER();
  int blocks_fit = grid.x && grid.y && grid.z && grid.y <= 65535 && grid.z <= 65535;
  unsigned threads = block.x * block.y * block.z;
  if (!blocks_fit || !threads || threads > 1024) return failed(cudaErrorInvalidConfiguration);
  sim_launch(stream);
  return cudaSuccess;
}
// the same through a handle, as code that nvcc makes calls it
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
cudaError_t cudaLaunchCooperativeKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
// the same with attributes, as CUTLASS launches
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **arguments) {
  return cudaLaunchKernel(kernel, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes, config->stream);
}

// `kernel<<<grid, block>>>()` pushes its shape, and the code that nvcc makes pops it before the launch
typedef struct { dim3 grid, block; size_t shared; void *stream; } Shape;
static _Thread_local Shape shapes[64];
static _Thread_local int shape_count;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
  shapes[shape_count++ & 63] = (Shape){grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  Shape shape = shapes[--shape_count & 63];
  *grid = shape.grid;
  *block = shape.block;
  *shared = shape.shared;
  *(void **)stream = shape.stream;
  return cudaSuccess;
}

// torch's libraries register their kernels when they are loaded; nothing of it is needed to run none of them
static int something[64];
void **__cudaRegisterFatBinary(void *binary) { return (void **)something; }
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterFunction(void **handle, const char *function, char *name, const char *device_name, int limit, void *a,
                            void *b, void *c, void *d, int *warps) {}
void __cudaRegisterVar(void **handle, char *variable, char *address, const char *name, int external, size_t size,
                       int constant, int global) {}
cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *function) {
  *out = (cudaKernel_t)function;
  return cudaSuccess;
}

// launch shapes are chosen by these
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *kernel) {
  int major, minor;
  sim_capability(&major, &minor);
  memset(out, 0, sizeof *out);
  out->maxThreadsPerBlock = 1024;
  out->numRegs = 32;
  out->ptxVersion = out->binaryVersion = 10 * major + minor;
  out->maxDynamicSharedSizeBytes = 49152;
  return cudaSuccess;
}
// more shared memory for a kernel: there is enough
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute which, int value) { return cudaSuccess; }
// how many blocks fit, by threads alone
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *count, const void *kernel, int threads, size_t shared) {
  *count = 2048 / (threads > 0 ? threads : 1);
  return cudaSuccess;
}
// CUB, by which torch sorts and scans
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, const void *kernel, int threads,
                                                                   size_t shared, unsigned flags) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(count, kernel, threads, shared);
}

// CUDA's own table of entry points: the newest version of a function that is written here, or its stub
static void *entry_point(const char *name) {
  static void *self;
  static const char *const VERSIONS[] = {"_v4", "_v3", "_v2", ""};
  if (!self) {
    Dl_info info;
    dladdr((void *)entry_point, &info);
    self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }
  void *function = NULL;
  for (int i = 0; i < 4 && !function; i++) {
    char versioned[256];
    snprintf(versioned, sizeof versioned, "%s%s", name, VERSIONS[i]);
    function = dlsym(self, versioned);
  }
  return function;
}
// torch and cuDNN look functions of the driver up by it
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result) {
  *out = entry_point(name);
  if (result) *result = *out ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ the driver

// Triton, inductor and torch's allocator call the driver for what the runtime does not give. The codes of errors that
// both have are the same numbers.
typedef struct { char name[256]; } Function;

// Triton looks up what older drivers lack
CUresult cuGetProcAddress(const char *name, void **out, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *result) {
  *out = entry_point(name);
  if (result) *result = *out ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return *out ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
// Triton's first call; what keeps the runtime from working keeps the driver too
CUresult cuInit(unsigned flags) { return (CUresult)no_device(); }
CUresult cuDriverGetVersion(int *version) { return (CUresult)cudaDriverGetVersion(version); }
CUresult cuDeviceGetCount(int *count) { return (CUresult)cudaGetDeviceCount(count); }
// a device is its number
CUresult cuDeviceGet(CUdevice *device, int index) {
  *device = index;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *out, int size, CUdevice device) {
  sim_card_name(out, size);
  return CUDA_SUCCESS;
}
// Triton reads shared memory, multiprocessors and clocks
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
  return (CUresult)cudaDeviceGetAttribute(value, (enum cudaDeviceAttr)which, device);
}
// one context, always current
CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  *out = (CUcontext)something;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}
// NULL would have Triton make a context
CUresult cuCtxGetCurrent(CUcontext *out) {
  *out = (CUcontext)something;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) { return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice *device) {
  *device = current;
  return CUDA_SUCCESS;
}
// Triton words its errors by both
CUresult cuGetErrorString(CUresult error, const char **words) {
  *words = word_of(error)->words;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char **name) {
  *name = word_of(error)->name;
  return CUDA_SUCCESS;
}
// torch asks the driver to keep its log for messages; there is none
CUresult cuLogsRegisterCallback(CUlogsCallback callback, void *data, CUlogsCallbackHandle *handle) {
  if (handle) *handle = (CUlogsCallbackHandle)something;
  return CUDA_SUCCESS;
}
CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle handle) { return CUDA_SUCCESS; }

// a compiled kernel of Triton: only its name counts
CUresult cuModuleLoadData(CUmodule *out, const void *image) {
  *out = (CUmodule)something;
  return CUDA_SUCCESS;
}
CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned count, CUjit_option *options, void **values) {
  return cuModuleLoadData(out, image);
}
CUresult cuModuleLoad(CUmodule *out, const char *path) { return cuModuleLoadData(out, path); }
CUresult cuModuleUnload(CUmodule module) { return CUDA_SUCCESS; }
// is_clip looks for the name later
CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
  Function *function = calloc(1, sizeof *function);
  snprintf(function->name, sizeof function->name, "%s", name);
  *out = (CUfunction)function;
  return CUDA_SUCCESS;
}
// registers, spills and threads, by which Triton chooses among configurations
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function) {
  *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : which == CU_FUNC_ATTRIBUTE_NUM_REGS ? 32 : 0;
  return CUDA_SUCCESS;
}
// Triton asks for more shared memory: there is enough
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) { return CUDA_SUCCESS; }
CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache config) { return CUDA_SUCCESS; }

static int is_clip(CUfunction function) {
  const char *name = ((Function *)function)->name;
  return !strncmp(name, "clip_aligned", 12) || !strncmp(name, "clip_looped", 11);
}
static CUresult launch(CUfunction function, unsigned x, unsigned y, unsigned z, CUstream stream, void **arguments) {
  if (no_device() || sticky()) return (CUresult)(no_device() ? no_device() : sticky());
  if (!x || !y || !z || y > 65535 || z > 65535) return CUDA_ERROR_INVALID_VALUE;
  Node node = {.kind = is_clip(function) ? CLIP : KERNEL, .bytes = x};
  for (int i = 0; node.kind == CLIP && i < 10; i++)
    node.arguments[i] = i < 7 ? *(long long *)arguments[i] : *(int *)arguments[i]; // seven addresses, then 32 bits each
  submit(stream, node, launch_time());
  return CUDA_SUCCESS;
}
// how Triton launches
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **arguments, void **extra) {
  return launch(function, config->gridDimX, config->gridDimY, config->gridDimZ, config->hStream, arguments);
}
// how Inductor's launcher does
CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y,
                        unsigned threads_z, unsigned shared, CUstream stream, void **arguments, void **extra) {
  return launch(function, x, y, z, stream, arguments);
}

// Triton refuses host pointers as arguments
CUresult cuPointerGetAttribute(void *out, CUpointer_attribute which, CUdeviceptr at) {
  Block block;
  if (!find_block((void *)at, &block, 0)) return CUDA_ERROR_INVALID_VALUE;
  switch (which) {
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *(CUdeviceptr *)out = at; break;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: *(unsigned *)out = block.pinned ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE; break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *(int *)out = block.device; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}
// Inductor, as the runtime's
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  return (CUresult)cudaStreamIsCapturing(stream, (enum cudaStreamCaptureStatus *)status);
}
// the whole block around an address, for memory that is shared between processes
CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr at) {
  Block block;
  if (!find_block((void *)at, &block, 0)) return CUDA_ERROR_NOT_FOUND;
  if (base) *base = block.at;
  if (bytes) *bytes = block.bytes;
  return CUDA_SUCCESS;
}

// torch's expandable segments (PYTORCH_ALLOC_CONF): addresses are reserved, and physical pages mapped into them
typedef struct { size_t bytes; int device; } Physical;
CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties, CUmemAllocationGranularity_flags flags) {
  *bytes = 2 << 20;
  return CUDA_SUCCESS;
}
CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr wanted, unsigned long long flags) {
  return (CUresult)map_block((void **)out, bytes, 0);
}
CUresult cuMemAddressFree(CUdeviceptr at, size_t bytes) {
  Block block;
  find_block((void *)at, &block, 1);
  munmap((void *)at, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *properties, unsigned long long flags) {
  if (!take(current, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  Physical *pages = malloc(sizeof *pages);
  *pages = (Physical){bytes, current};
  *out = (CUmemGenericAllocationHandle)pages;
  return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Physical *pages = (Physical *)handle;
  give_back(pages->device, pages->bytes);
  free(pages);
  return CUDA_SUCCESS;
}
CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags) {
  return CUDA_SUCCESS;
}
CUresult cuMemSetAccess(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *access, size_t count) { return CUDA_SUCCESS; }
CUresult cuMemUnmap(CUdeviceptr at, size_t bytes) { return CUDA_SUCCESS; }

// ------------------------------------------------------------------------------------------------ nfbench's clip

// The kernels `clip_aligned` and `clip_looped` of nfbench.nets.agc_kernels, on float32 weights and gradients. nfbench
// leaves its fused clip out where a trial clips nothing, so without values this path would never run here. Of a large
// net the gradients hold nothing that a kernel has computed, and clipping them would take most of a test's time.
// Arguments: table, owner, first, length, w_like, g_like, counts, parameters, clipping, eps; see agc_kernels.
static void run_clip(size_t units, const long long *arguments) {
  enum { SPREAD = 64 };
  const long long *table = (void *)arguments[0], *first = (void *)arguments[2], *length = (void *)arguments[3];
  const int *owner = (void *)arguments[1];
  int *counts = (void *)arguments[6];
  int parameters = (int)arguments[7];
  float clipping, eps;
  memcpy(&clipping, &arguments[8], sizeof clipping);
  memcpy(&eps, &arguments[9], sizeof eps);
  for (size_t unit = 0; unit < units; unit++) {
    int p = owner[unit];
    if (!table[parameters + p]) continue;
    const float *w = (const float *)table[p] + (unit - first[p]) * length[p];
    float *g = (float *)table[parameters + p] + (unit - first[p]) * length[p];
    double w_squares = 0, g_squares = 0;
    for (long long i = 0; i < length[p]; i++) {
      w_squares += (double)w[i] * w[i];
      g_squares += (double)g[i] * g[i];
    }
    float w_norm = sqrtf((float)w_squares), g_norm = sqrtf((float)g_squares);
    float limit = fmaxf(w_norm, eps) * clipping;
    if (!isfinite(g_norm)) counts[SPREAD + unit % SPREAD]++;
    else if (g_norm > limit) {
      counts[unit % SPREAD]++;
      for (long long i = 0; i < length[p]; i++) g[i] *= limit / fmaxf(g_norm, 1e-6f);
    }
  }
}
