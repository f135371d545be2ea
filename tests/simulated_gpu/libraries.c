// cuBLAS, cuDNN, NCCL and CUPTI of the simulated GPU: the calls that torch makes while it trains a net.
//
// A product or a convolution is one launch without values. NCCL's collectives are real, through shared memory.
#define _GNU_SOURCE
#include "simulated.h"
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cudnn.h>
#include <cupti.h>
#include <fcntl.h>
#include <nccl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// ------------------------------------------------------------------------------------------------ cuBLAS

struct cublasContext {
  cudaStream_t stream;
  cublasMath_t math;
};

// torch keeps one handle a thread and stream, gives it a workspace and sets TF32 by its math mode
cublasStatus_t cublasCreate_v2(cublasHandle_t *out) {
  *out = calloc(1, sizeof **out);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  free(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode) {
  *mode = handle->math;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t *mode) {
  *mode = CUBLAS_POINTER_MODE_HOST;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) { return CUBLAS_STATUS_SUCCESS; }

// the products that torch takes in fp32, tf32, fp16, bf16 and fp64, one by one and batched
#define PRODUCT(name, ...) \
  cublasStatus_t name(cublasHandle_t handle, __VA_ARGS__) { \
    sim_launch(handle->stream); \
    return CUBLAS_STATUS_SUCCESS; \
  }
#define TRANSPOSED cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k
PRODUCT(cublasGemmEx, TRANSPOSED, const void *alpha, const void *A, cudaDataType ta, int lda, const void *B,
        cudaDataType tb, int ldb, const void *beta, void *C, cudaDataType tc, int ldc, cublasComputeType_t compute,
        cublasGemmAlgo_t algorithm)
PRODUCT(cublasGemmStridedBatchedEx, TRANSPOSED, const void *alpha, const void *A, cudaDataType ta, int lda, long long sa,
        const void *B, cudaDataType tb, int ldb, long long sb, const void *beta, void *C, cudaDataType tc, int ldc,
        long long sc, int batch, cublasComputeType_t compute, cublasGemmAlgo_t algorithm)
PRODUCT(cublasSgemm_v2, TRANSPOSED, const float *alpha, const float *A, int lda, const float *B, int ldb,
        const float *beta, float *C, int ldc)
PRODUCT(cublasSgemmStridedBatched, TRANSPOSED, const float *alpha, const float *A, int lda, long long sa, const float *B,
        int ldb, long long sb, const float *beta, float *C, int ldc, long long sc, int batch)
PRODUCT(cublasDgemm_v2, TRANSPOSED, const double *alpha, const double *A, int lda, const double *B, int ldb,
        const double *beta, double *C, int ldc)
PRODUCT(cublasSgemv_v2, cublasOperation_t trans, int m, int n, const float *alpha, const float *A, int lda,
        const float *x, int incx, const float *beta, float *y, int incy)

// cublasLt, which torch takes for a linear layer with its bias: it describes the product, asks for an algorithm, runs it
typedef struct { char room[256]; } Described;
#define DESCRIBED(name, type, ...) \
  cublasStatus_t name(type *out, __VA_ARGS__) { \
    *out = calloc(1, sizeof(Described)); \
    return CUBLAS_STATUS_SUCCESS; \
  }
DESCRIBED(cublasLtMatmulDescCreate, cublasLtMatmulDesc_t, cublasComputeType_t compute, cudaDataType_t scale)
DESCRIBED(cublasLtMatrixLayoutCreate, cublasLtMatrixLayout_t, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
  *out = calloc(1, sizeof(Described));
  return CUBLAS_STATUS_SUCCESS;
}
#define FREED(name, type) \
  cublasStatus_t name(type described) { \
    free(described); \
    return CUBLAS_STATUS_SUCCESS; \
  }
FREED(cublasLtMatmulDescDestroy, cublasLtMatmulDesc_t)
FREED(cublasLtMatrixLayoutDestroy, cublasLtMatrixLayout_t)
FREED(cublasLtMatmulPreferenceDestroy, cublasLtMatmulPreference_t)
#define ATTRIBUTE_SET(name, type, attribute) \
  cublasStatus_t name(type described, attribute which, const void *value, size_t bytes) { return CUBLAS_STATUS_SUCCESS; }
ATTRIBUTE_SET(cublasLtMatmulDescSetAttribute, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t)
ATTRIBUTE_SET(cublasLtMatrixLayoutSetAttribute, cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t)
ATTRIBUTE_SET(cublasLtMatmulPreferenceSetAttribute, cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t)

// torch takes the first algorithm and raises where there is none
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                                              cublasLtMatrixLayout_t D, cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count) {
  memset(results, 0, sizeof *results);
  results->state = CUBLAS_STATUS_SUCCESS;
  results->wavesCount = 1;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}
// C = alpha A B + beta C with its epilogue: one kernel
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t Ad, const void *B, cublasLtMatrixLayout_t Bd, const void *beta,
                              const void *C, cublasLtMatrixLayout_t Cd, void *D, cublasLtMatrixLayout_t Dd,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes, cudaStream_t stream) {
  sim_launch(stream);
  return CUBLAS_STATUS_SUCCESS;
}

// ------------------------------------------------------------------------------------------------ cuDNN

struct cudnnContext {
  cudaStream_t stream;
};

// torch keeps one handle a thread and sets the stream before each call
cudnnStatus_t cudnnCreate(cudnnHandle_t *out) {
  *out = calloc(1, sizeof **out);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream) {
  *stream = handle->stream;
  return CUDNN_STATUS_SUCCESS;
}
// the words of torch's CUDNN_STATUS errors
const char *cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : "CUDNN_STATUS_EXECUTION_FAILED";
}

// Convolutions go through descriptors that hold attributes: a graph of operations, engines that can run it, a plan with
// its workspace. Here one engine runs every graph, and the setting `workspace` is what its plan asks for, in bytes.
typedef struct {
  cudnnBackendAttributeName_t name;
  cudnnBackendAttributeType_t type;
  int64_t count;
  void *values;
} Attribute;
enum { MAX_ATTRIBUTES = 64 };
typedef struct {
  cudnnBackendDescriptorType_t type;
  Attribute attributes[MAX_ATTRIBUTES];
  int count;
} Descriptor;

static size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_FRACTION: return 16;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR: return 1;
    default: return 4; // enumerations, float and int32
  }
}

// an empty descriptor of any type; attributes are set until it is finalized
cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out) {
  Descriptor *descriptor = calloc(1, sizeof *descriptor);
  descriptor->type = type;
  *out = descriptor;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t handle) {
  Descriptor *descriptor = handle;
  if (!descriptor) return CUDNN_STATUS_SUCCESS;
  for (int i = 0; i < descriptor->count; i++) free(descriptor->attributes[i].values);
  free(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) { return CUDNN_STATUS_SUCCESS; }

static Attribute *attribute_of(Descriptor *descriptor, cudnnBackendAttributeName_t name) {
  for (int i = 0; i < descriptor->count; i++)
    if (descriptor->attributes[i].name == name) return &descriptor->attributes[i];
  return NULL;
}
// values are copied: the caller's arrays go
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values) {
  Descriptor *descriptor = handle;
  Attribute *attribute = attribute_of(descriptor, name);
  if (!attribute && descriptor->count == MAX_ATTRIBUTES) sim_unwritten("a cuDNN descriptor of more attributes");
  if (!attribute) attribute = &descriptor->attributes[descriptor->count++];
  free(attribute->values);
  size_t bytes = (size_t)count * size_of(type);
  *attribute = (Attribute){name, type, count, malloc(bytes + 1)};
  memcpy(attribute->values, values, bytes);
  return CUDNN_STATUS_SUCCESS;
}
// what was set, or what only the library knows: count is how many there are, whatever room there is
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *out) {
  static const char PLAN[] = "{\"simulated\": true}";
  int64_t ignored;
  if (!count) count = &ignored;
  *count = 1;
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: // one configuration, in the descriptor that the caller made for it
    case CUDNN_ATTR_ENGINECFG_ENGINE: return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      if (out) *(int64_t *)out = 0;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      if (out) *(int64_t *)out = (int64_t)sim_number("workspace", 1 << 20);
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION: // torch remembers plans by it
      *count = sizeof PLAN;
      if (out) snprintf(out, (size_t)room, "%s", PLAN);
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_INTERMEDIATE_INFO:
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
    case CUDNN_ATTR_ENGINE_KNOB_INFO:
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: // among others whether an engine is deterministic
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE: *count = 0; return CUDNN_STATUS_SUCCESS;
    default: break;
  }
  const Attribute *attribute = attribute_of(handle, name);
  if (!attribute) {
    char words[80];
    snprintf(words, sizeof words, "cudnnBackendGetAttribute(%d) of descriptor %d", name, ((Descriptor *)handle)->type);
    sim_unwritten(words);
  }
  *count = attribute->count;
  if (out) memcpy(out, attribute->values, (size_t)(attribute->count < room ? attribute->count : room) * size_of(type));
  return CUDNN_STATUS_SUCCESS;
}
// one kernel for the whole graph
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  sim_launch(handle->stream);
  return CUDNN_STATUS_SUCCESS;
}

// batch normalization has functions of its own, with descriptors of tensors
cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *out) {
  *out = calloc(1, sizeof(Described));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor) {
  free(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type, int dimensions,
                                         const int sizes[], const int strides[]) {
  return CUDNN_STATUS_SUCCESS;
}
enum { NORM_WORKSPACE = 1 << 16 };
// torch allocates these bytes before each pass, the reserve to be kept for the backward pass
cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t z, const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t scale,
    const cudnnActivationDescriptor_t activation, size_t *bytes) {
  *bytes = NORM_WORKSPACE;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(cudnnHandle_t handle, cudnnBatchNormMode_t mode,
                                                                   cudnnBatchNormOps_t ops,
                                                                   const cudnnActivationDescriptor_t activation,
                                                                   const cudnnTensorDescriptor_t x, size_t *bytes) {
  *bytes = NORM_WORKSPACE;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t dy, const cudnnTensorDescriptor_t dz,
    const cudnnTensorDescriptor_t dx, const cudnnTensorDescriptor_t scale, const cudnnActivationDescriptor_t activation,
    size_t *bytes) {
  *bytes = NORM_WORKSPACE;
  return CUDNN_STATUS_SUCCESS;
}
// in training, in evaluation and backwards: one kernel each
cudnnStatus_t cudnnBatchNormalizationForwardTrainingEx(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const void *alpha, const void *beta,
    const cudnnTensorDescriptor_t xd, const void *x, const cudnnTensorDescriptor_t zd, const void *z,
    const cudnnTensorDescriptor_t yd, void *y, const cudnnTensorDescriptor_t sd, const void *scale, const void *bias,
    double factor, void *mean, void *variance, double epsilon, void *saved_mean, void *saved_variance,
    cudnnActivationDescriptor_t activation, void *workspace, size_t workspace_bytes, void *reserve, size_t reserve_bytes) {
  sim_launch(handle->stream);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBatchNormalizationForwardInference(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, const void *alpha, const void *beta, const cudnnTensorDescriptor_t xd,
    const void *x, const cudnnTensorDescriptor_t yd, void *y, const cudnnTensorDescriptor_t sd, const void *scale,
    const void *bias, const void *mean, const void *variance, double epsilon) {
  sim_launch(handle->stream);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBatchNormalizationBackwardEx(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const void *alpha, const void *beta,
    const void *alpha_parameters, const void *beta_parameters, const cudnnTensorDescriptor_t xd, const void *x,
    const cudnnTensorDescriptor_t yd, const void *y, const cudnnTensorDescriptor_t dyd, const void *dy,
    const cudnnTensorDescriptor_t dzd, void *dz, const cudnnTensorDescriptor_t dxd, void *dx,
    const cudnnTensorDescriptor_t sd, const void *scale, const void *bias, void *dscale, void *dbias, double epsilon,
    const void *mean, const void *variance, cudnnActivationDescriptor_t activation, void *workspace,
    size_t workspace_bytes, void *reserve, size_t reserve_bytes) {
  sim_launch(handle->stream);
  return CUDNN_STATUS_SUCCESS;
}

// ------------------------------------------------------------------------------------------------ NCCL

// The ranks of one machine meet in a file of shared memory, each with a room of 64 MiB; larger tensors go in pieces.
enum { ROOM = 1 << 26, HEAD = 4096 };
typedef struct { atomic_int waiting, generation, left; } Meeting;
struct ncclComm {
  int count, rank;
  Meeting *meeting;
  char *rooms, path[256];
};

static void meet(ncclComm_t comm) {
  int generation = atomic_load(&comm->meeting->generation);
  if (atomic_fetch_add(&comm->meeting->waiting, 1) + 1 == comm->count) {
    atomic_store(&comm->meeting->waiting, 0);
    atomic_fetch_add(&comm->meeting->generation, 1);
    return;
  }
  while (atomic_load(&comm->meeting->generation) == generation) usleep(50);
}

// torch turns features on by it
ncclResult_t ncclGetVersion(int *version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
// rank 0 makes it and torch's store carries it to the others: here the name of the shared file
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "nccl-%d-%lld", getpid(), sim_now());
  return ncclSuccess;
}
// every rank calls one of these three; the last returns no sooner than the first in real NCCL
ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int count, ncclUniqueId id, int rank, ncclConfig_t *config) {
  ncclComm_t comm = calloc(1, sizeof *comm);
  comm->count = count;
  comm->rank = rank;
  sim_shared_path(id.internal, comm->path, sizeof comm->path);
  size_t bytes = HEAD + (size_t)count * ROOM;
  int file = open(comm->path, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, (off_t)bytes)) return ncclSystemError;
  char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  comm->meeting = (Meeting *)memory;
  comm->rooms = memory + HEAD;
  *out = comm;
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t *out, int count, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(out, count, id, rank, NULL);
}
ncclResult_t ncclCommInitRankScalable(ncclComm_t *out, int count, int rank, int ids, ncclUniqueId *id, ncclConfig_t *config) {
  return ncclCommInitRankConfig(out, count, id[0], rank, config);
}
ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
  *count = comm->count;
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
  *rank = comm->rank;
  return ncclSuccess;
}
// torch's watchdog asks every second whether a rank is lost
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  *error = ncclSuccess;
  return ncclSuccess;
}
// before destroying, and torch aborts instead where a rank was lost
ncclResult_t ncclCommFinalize(ncclComm_t comm) { return ncclSuccess; }
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (atomic_fetch_add(&comm->meeting->left, 1) + 1 == comm->count) unlink(comm->path);
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) { return ncclCommDestroy(comm); }
// calls between the two are one; here each is done at once
ncclResult_t ncclGroupStart(void) { return ncclSuccess; }
ncclResult_t ncclGroupEnd(void) { return ncclSuccess; }
// the words of torch's DistBackendError
const char *ncclGetErrorString(ncclResult_t error) { return error ? "a simulated error of NCCL" : "no error"; }
const char *ncclGetLastError(ncclComm_t comm) { return ""; }
// torch registers its segments for copies without a detour
ncclResult_t ncclCommRegister(const ncclComm_t comm, void *buffer, size_t bytes, void **handle) {
  *handle = buffer;
  return ncclSuccess;
}
ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle) { return ncclSuccess; }

static size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: sim_unwritten("an NCCL collective of this type");
  }
}
static double element(const char *at, size_t i, ncclDataType_t type) {
  switch (type) {
    case ncclInt8: return ((signed char *)at)[i];
    case ncclUint8: return ((unsigned char *)at)[i];
    case ncclInt32: return ((int *)at)[i];
    case ncclUint32: return ((unsigned *)at)[i];
    case ncclInt64: return (double)((long long *)at)[i];
    case ncclUint64: return (double)((unsigned long long *)at)[i];
    case ncclFloat16: return (double)((_Float16 *)at)[i];
    case ncclFloat32: return ((float *)at)[i];
    case ncclFloat64: return ((double *)at)[i];
    case ncclBfloat16: {
      uint32_t bits = (uint32_t)((uint16_t *)at)[i] << 16;
      float value;
      memcpy(&value, &bits, sizeof value);
      return value;
    }
    default: sim_unwritten("an NCCL collective of this type");
  }
}
static void set_element(char *at, size_t i, ncclDataType_t type, double value) {
  switch (type) {
    case ncclInt8: ((signed char *)at)[i] = (signed char)value; break;
    case ncclUint8: ((unsigned char *)at)[i] = (unsigned char)value; break;
    case ncclInt32: ((int *)at)[i] = (int)value; break;
    case ncclUint32: ((unsigned *)at)[i] = (unsigned)value; break;
    case ncclInt64: ((long long *)at)[i] = (long long)value; break;
    case ncclUint64: ((unsigned long long *)at)[i] = (unsigned long long)value; break;
    case ncclFloat16: ((_Float16 *)at)[i] = (_Float16)value; break;
    case ncclFloat32: ((float *)at)[i] = (float)value; break;
    case ncclFloat64: ((double *)at)[i] = value; break;
    case ncclBfloat16: {
      float rounded = (float)value;
      uint32_t bits;
      memcpy(&bits, &rounded, sizeof bits);
      ((uint16_t *)at)[i] = (uint16_t)((bits + 0x8000) >> 16);
      break;
    }
    default: sim_unwritten("an NCCL collective of this type");
  }
}

static double reduced(ncclComm_t comm, size_t i, ncclDataType_t type, ncclRedOp_t operation) {
  double value = element(comm->rooms, i, type);
  for (int rank = 1; rank < comm->count; rank++) {
    double other = element(comm->rooms + (size_t)rank * ROOM, i, type);
    switch (operation) {
      case ncclSum:
      case ncclAvg: value += other; break;
      case ncclProd: value *= other; break;
      case ncclMax: value = value > other ? value : other; break;
      case ncclMin: value = value < other ? value : other; break;
      default: sim_unwritten("an NCCL reduction of the caller's own");
    }
  }
  return operation == ncclAvg ? value / comm->count : value;
}

typedef enum { FROM_ROOT, GATHER, REDUCE } Collective;
static ncclResult_t collect(ncclComm_t comm, Collective what, const void *send, void *receive, size_t count,
                            ncclDataType_t type, ncclRedOp_t operation, int root, cudaStream_t stream) {
  size_t size = bytes_of(type), most = ROOM / size;
  for (size_t at = 0; at < count; at += most) {
    size_t part = count - at < most ? count - at : most;
    char *out = (char *)receive + at * size;
    memcpy(comm->rooms + (size_t)comm->rank * ROOM, (const char *)send + at * size, part * size);
    meet(comm);
    if (what == FROM_ROOT) memcpy(out, comm->rooms + (size_t)root * ROOM, part * size);
    for (int rank = 0; what == GATHER && rank < comm->count; rank++)
      memcpy(out + (size_t)rank * count * size, comm->rooms + (size_t)rank * ROOM, part * size);
    for (size_t i = 0; what == REDUCE && i < part; i++) set_element(out, i, type, reduced(comm, i, type, operation));
    meet(comm);
  }
  sim_launch(stream);
  return ncclSuccess;
}

// gradients and metrics; the broadcasts bring rank 0's weights to all
ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream) {
  return collect(comm, REDUCE, send, receive, count, type, operation, 0, stream);
}
ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                        int root, ncclComm_t comm, cudaStream_t stream) {
  return collect(comm, REDUCE, send, receive ? receive : (void *)send, count, type, operation, root, stream);
}
ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return collect(comm, FROM_ROOT, send, receive, count, type, ncclSum, root, stream);
}
ncclResult_t ncclBcast(void *buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return ncclBroadcast(buffer, buffer, count, type, root, comm, stream);
}
// what is sent may lie inside of what is received
ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  void *sent = malloc(count * bytes_of(type) + 1);
  memcpy(sent, send, count * bytes_of(type));
  ncclResult_t result = collect(comm, GATHER, sent, receive, count, type, ncclSum, 0, stream);
  free(sent);
  return result;
}

// ------------------------------------------------------------------------------------------------ CUPTI

// torch.profiler subscribes and collects records of kernels; here there are none, so nothing is counted
CUptiResult cuptiGetVersion(uint32_t *version) {
  *version = CUPTI_API_VERSION;
  return CUPTI_SUCCESS;
}
CUptiResult cuptiGetResultString(CUptiResult result, const char **words) {
  *words = "a simulated error of CUPTI";
  return CUPTI_SUCCESS;
}
// a NULL subscriber would be an error
CUptiResult cuptiSubscribe(CUpti_SubscriberHandle *out, CUpti_CallbackFunc callback, void *data) {
  static int subscriber;
  *out = (CUpti_SubscriberHandle)&subscriber;
  return CUPTI_SUCCESS;
}
// buffers are never asked for, as there is nothing to put into them
CUptiResult cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc request, CUpti_BuffersCallbackCompleteFunc complete) {
  return CUPTI_SUCCESS;
}
CUptiResult cuptiActivityRegisterTimestampCallback(CUpti_TimestampCallbackFunc callback) { return CUPTI_SUCCESS; }
CUptiResult cuptiActivityEnable(CUpti_ActivityKind kind) { return CUPTI_SUCCESS; }
CUptiResult cuptiActivityDisable(CUpti_ActivityKind kind) { return CUPTI_SUCCESS; }
CUptiResult cuptiActivityEnableDriverApi(CUpti_CallbackId id, uint8_t enable) { return CUPTI_SUCCESS; }
CUptiResult cuptiActivityEnableRuntimeApi(CUpti_CallbackId id, uint8_t enable) { return CUPTI_SUCCESS; }
CUptiResult cuptiActivityFlushAll(uint32_t flag) { return CUPTI_SUCCESS; }
// MAX_LIMIT_REACHED is the end of a buffer
CUptiResult cuptiActivityGetNextRecord(uint8_t *buffer, size_t bytes, CUpti_Activity **record) {
  return CUPTI_ERROR_MAX_LIMIT_REACHED;
}
CUptiResult cuptiActivityGetNumDroppedRecords(CUcontext context, uint32_t stream, size_t *dropped) {
  *dropped = 0;
  return CUPTI_SUCCESS;
}
