// NVML of the simulated GPU: what nfbench and torch read of a card, with the structs as nvidia-ml-py lays them out.
//
// `nvml_unsupported` is a list of readings (energy,power,…) that answer "Not Supported", as containers and laptops do.
#include "simulated.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7 };
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned gpu, memory; } Rates;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned pid; unsigned long long used; } Process1;
static const unsigned NO_INSTANCE = 0xffffffff;

static int supported(const char *reading) {
  char list[256], *rest;
  sim_text("nvml_unsupported", "", list, sizeof list);
  for (char *one = strtok_r(list, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
    if (!strcmp(one, reading)) return 0;
  return 1;
}
#define NEEDS(reading) \
  if (!supported(reading)) return NOT_SUPPORTED

// A handle is the card's number + 1, and of a slice of it (MIG) the slice's number + 1 above that.
static void *handle(int card, int slice) { return (void *)(uintptr_t)((unsigned)slice << 8 | (unsigned)(card + 1)); }
static int card_of(void *handle) { return (int)((uintptr_t)handle & 0xff) - 1; }
static int slice_of(void *handle) { return (int)((uintptr_t)handle >> 8); }

static int put(const char *words, char *out, unsigned size) {
  if (strlen(words) >= size) return TOO_SMALL;
  strcpy(out, words);
  return OK;
}

// 18 is a driver that was updated under a running system
int nvmlInit_v2(void) { return (int)sim_number("nvml_init", 0); }
int nvmlInitWithFlags(unsigned flags) { return nvmlInit_v2(); }
int nvmlShutdown(void) { return OK; }
// the words of nvidia-ml-py's exceptions
const char *nvmlErrorString(int code) {
  switch (code) {
    case OK: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case 9: return "Driver Not Loaded";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
  }
}
// like 595.45.04
int nvmlSystemGetDriverVersion(char *out, unsigned size) {
  char driver[64];
  sim_text("driver", "595.45.04", driver, sizeof driver);
  return put(driver, out, size);
}
// 1000 × major + 10 × minor
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  *version = sim_driver_cuda();
  return OK;
}
int nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

// all cards, whatever CUDA_VISIBLE_DEVICES leaves
int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = (unsigned)sim_cards();
  return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
  if ((int)index >= sim_cards()) return INVALID;
  *out = handle((int)index, 0);
  return OK;
}
// torch finds its card by the UUID or by the bus, since the two count differently
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
  for (int card = 0; card < sim_cards(); card++) {
    char words[64];
    sim_uuid_words(card, "GPU", words);
    if (strcasecmp(words, uuid)) continue;
    *out = handle(card, 0);
    return OK;
  }
  return NOT_FOUND;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **out) {
  unsigned number = 0x18;
  sscanf(bus, "%*[0-9a-fA-F]:%x", &number);
  *out = handle((int)number - 0x18, 0);
  return OK;
}
int nvmlDeviceGetIndex(void *device, unsigned *index) {
  *index = (unsigned)card_of(device);
  return OK;
}
// of a slice: the card's name, MIG and the profile
int nvmlDeviceGetName(void *device, char *out, unsigned size) {
  char name[128];
  sim_card_name(name, sizeof name);
  if (slice_of(device)) {
    char profile[32];
    sim_text("mig_profile", "1g.18gb", profile, sizeof profile);
    strcat(strcat(name, " MIG "), profile);
  }
  return put(name, out, size);
}
// with GPU- or MIG- before it, which torch's own properties lack
int nvmlDeviceGetUUID(void *device, char *out, unsigned size) {
  char words[64];
  sim_uuid_words(card_of(device), slice_of(device) ? "MIG" : "GPU", words);
  return put(words, out, size);
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  sim_capability(major, minor);
  return OK;
}

// the first version counts what the driver reserves as used
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
  memory->total = sim_total_memory();
  memory->used = (unsigned long long)sim_used(card_of(device));
  memory->free = memory->total - memory->used;
  return OK;
}
// the second tells it apart; used is what all processes hold
int nvmlDeviceGetMemoryInfo_v2(void *device, Memory2 *memory) {
  memory->total = sim_total_memory();
  memory->reserved = 600000000;
  memory->used = (unsigned long long)sim_used(card_of(device));
  memory->free = memory->total - memory->used;
  return OK;
}

static double watts(void) { return sim_number("power", 412); }
// now, in milliwatts
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
  NEEDS("power");
  *milliwatts = (unsigned)(watts() * 1000);
  return OK;
}
// in millijoules, counted up every 20 ms
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
  NEEDS("energy");
  *energy = (unsigned long long)(sim_now() / 20000000 * 20 * watts());
  return OK;
}
// as it is set, and below as the card comes, in milliwatts
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts) {
  NEEDS("power_limit");
  *milliwatts = (unsigned)(sim_number("power_limit", 700) * 1000);
  return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) {
  return nvmlDeviceGetPowerManagementLimit(device, milliwatts);
}
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *milliwatts) {
  NEEDS("power_limit");
  *milliwatts = 700000;
  return OK;
}
// of the multiprocessors now, and below at most, in MHz
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *megahertz) {
  NEEDS("clock");
  *megahertz = (unsigned)sim_number("clock", 1980);
  return OK;
}
int nvmlDeviceGetMaxClockInfo(void *device, int which, unsigned *megahertz) {
  NEEDS("clock");
  *megahertz = 1980;
  return OK;
}
// in °C
int nvmlDeviceGetTemperature(void *device, int which, unsigned *celsius) {
  NEEDS("temperature");
  *celsius = (unsigned)sim_number("temperature", 41);
  return OK;
}
// a mask of reasons: 0x4 the power limit, 0x20 and 0x40 heat
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
  NEEDS("throttle");
  *reasons = (unsigned long long)sim_number("throttle", 0);
  return OK;
}
// the name before driver 535
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
  return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}
// percent of the last moments in which some process ran a kernel
int nvmlDeviceGetUtilizationRates(void *device, Rates *rates) {
  NEEDS("utilization");
  rates->gpu = (unsigned)sim_number("busy", 0);
  rates->memory = 0;
  return OK;
}
// called twice: with too little room it gives the number of processes
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *out) {
  NEEDS("processes");
  const Holder *all = sim_holders();
  unsigned room = *count, known = 0;
  long long other = (long long)sim_number("other_process", 0);
  if (other) {
    if (known < room) out[known] = (Process){1, (unsigned long long)other, NO_INSTANCE, NO_INSTANCE};
    known++;
  }
  for (int i = 0; i < MAX_PROCESSES; i++) {
    if (all[i].card != card_of(device) || !sim_alive(all[i].pid)) continue;
    if (known < room) out[known] = (Process){(unsigned)all[i].pid, (unsigned long long)all[i].used, NO_INSTANCE, NO_INSTANCE};
    known++;
  }
  *count = known;
  return known > room ? TOO_SMALL : OK;
}
// torch names the processes on the card in its message when memory runs out
int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, Process1 *out) {
  Process all[MAX_PROCESSES + 1];
  unsigned room = *count;
  *count = MAX_PROCESSES + 1;
  int code = nvmlDeviceGetComputeRunningProcesses_v3(device, count, all);
  for (unsigned i = 0; code == OK && i < *count && i < room; i++) out[i] = (Process1){all[i].pid, all[i].used};
  return code == OK && *count > room ? TOO_SMALL : code;
}

// `mig` is the number of slices of a card
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *pending) {
  NEEDS("mig");
  *now = *pending = sim_number("mig", 0) > 0;
  return OK;
}
// slices that there might be; those that are not there are not found below
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
  *count = 7;
  return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **out) {
  if (index >= (unsigned)sim_number("mig", 0)) return NOT_FOUND;
  *out = handle(card_of(device), (int)index + 1);
  return OK;
}

// torch asks which cards are linked before it makes a process group; these are not
int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned link, int *type) { return NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *device, unsigned link, void *info) { return NOT_SUPPORTED; }
int nvmlDeviceGetGpuFabricInfoV(void *device, void *info) { return NOT_SUPPORTED; }
int nvmlDeviceGetP2PStatus(void *device, void *peer, int which, int *status) {
  *status = 0;
  return OK;
}
