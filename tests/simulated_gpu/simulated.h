// What the three files of the simulated GPU share: its settings, the ledger of memory that all processes see, streams.
//
// A setting `name` is read from the line "name value" of the file $SIMULATED_GPU_CONTROL, which may change while a
// process runs, and else from $SIMULATED_GPU_NAME. README.md lists them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))
enum { MAX_DEVICES = 16, MAX_PROCESSES = 256 };

HIDDEN double sim_number(const char *name, double otherwise);
HIDDEN void sim_text(const char *name, const char *otherwise, char *out, size_t size);
// The settings that more than one library answers with.
HIDDEN void sim_card_name(char *out, size_t size);
HIDDEN size_t sim_total_memory(void);
HIDDEN int sim_cards(void);
HIDDEN void sim_capability(int *major, int *minor);
HIDDEN int sim_driver_cuda(void);
// The path of a file in the shared memory of this test: two tests with other settings of `shm` never meet.
HIDDEN void sim_shared_path(const char *name, char *out, size_t size);

HIDDEN long long sim_now(void); // nanoseconds of a steady clock
HIDDEN void sim_uuid(int card, unsigned char out[16]);
HIDDEN void sim_uuid_words(int card, const char *prefix, char out[64]);

// One process and what it holds of one card, in bytes. In shared memory, so that `free` and NVML tell the same.
typedef struct {
  int pid, card;
  long long used;
} Holder;
HIDDEN Holder *sim_holders(void); // MAX_PROCESSES of them
HIDDEN int sim_alive(int pid);
HIDDEN long long sim_used(int card);

// Let one kernel take its time on the stream (a cudaStream_t), or join the graph that the stream captures.
HIDDEN void sim_launch(void *stream);
// End the process with the name of a function that torch calls and nobody has written.
HIDDEN void sim_unwritten(const char *name) __attribute__((noreturn));
