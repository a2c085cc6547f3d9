/* Bifocal's attention for other programs: one attention class on one device, planned once per step, run once
 * per layer, each phase on the backend that the router chooses for it.
 *
 * Letters: T query rows of a step, B sequences, H query heads, HK KV heads, D head dim, P pages, S tokens of
 * a page. Arrays lie where the device reads them: in GPU memory with device "cuda", in host memory with
 * "cpu".
 *
 * Functions return BIFOCAL_OK or another code; bifocal_last_error() then says what is wrong. A handle belongs
 * to one thread at a time. Nothing here ends the process for a caller's mistake, but contents of GPU arrays
 * can't be checked. */
#ifndef BIFOCAL_ATTENTION_H
#define BIFOCAL_ATTENTION_H

#include <stdint.h>

#if defined(__GNUC__)
#define BIFOCAL_API __attribute__((visibility("default")))
#else
#define BIFOCAL_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bifocal_code {
  BIFOCAL_OK = 0,
  BIFOCAL_INVALID_ARGUMENT = 1,
  BIFOCAL_UNSUPPORTED = 2, /* no backend of the device serves this class */
  BIFOCAL_OUT_OF_MEMORY = 3,
  BIFOCAL_UNAVAILABLE = 4, /* no such device, or not in this build */
  BIFOCAL_INTERNAL = 5
} bifocal_code;

typedef enum bifocal_dtype { BIFOCAL_F32 = 0, BIFOCAL_F16 = 1, BIFOCAL_BF16 = 2 } bifocal_dtype;

typedef enum bifocal_phase { BIFOCAL_PREFILL = 0, BIFOCAL_DECODE = 1 } bifocal_phase;

/* What is fixed. bifocal_attention_defaults() fills in what has a default. */
typedef struct bifocal_attention_options {
  const char* device;    /* "cpu" (default) or "cuda": the calling thread's current GPU */
  const char* backend;   /* "auto" (default), a name, or "prefill,decode", as --attention-backend */
  int32_t num_heads;     /* H, a multiple of HK */
  int32_t num_kv_heads;  /* HK */
  int32_t head_dim;      /* D, of keys and values */
  int32_t page_size;     /* S; default 64 */
  int32_t window;        /* keys that a row sees, its own included; 0 (default): all */
  int32_t sinks;         /* 1: runs pass sinks; default 0 */
  int32_t deterministic; /* 1: a row's bits don't depend on the others; default 0 */
  float scale;           /* of logits; 0 (default): 1 / sqrt(D) */
  float softcap;         /* logits become softcap * tanh(logit / softcap); 0 (default): they don't */
  int32_t cache_dtype;   /* bifocal_dtype of keys and values; default bf16, the only one on "cuda" */
  int32_t max_tokens;    /* T of the largest step */
  int32_t max_seqs;      /* B of the largest step */
  int32_t max_kv_len;    /* keys of the longest sequence */
  int32_t num_threads;   /* "cpu" only; 0 (default): one per core */
} bifocal_attention_options;

/* Sequences of a step: num_prefill with any number of query rows, then num_decode with one each. The last row
 * of a sequence sees all of its keys, the one before one key less. Arrays must live until the step's last run
 * has ended. */
typedef struct bifocal_attention_batch {
  int32_t num_prefill;
  int32_t num_decode;
  const int32_t* q_begin;    /* [B] first query row */
  const int32_t* q_len;      /* [B] query rows; 0: none */
  const int32_t* kv_len;     /* [B] keys, those of the step's own rows included */
  const int32_t* page_table; /* [B, page_table_stride] page ids of a layer */
  int64_t page_table_stride;
} bifocal_attention_batch;

/* One layer of the step. */
typedef struct bifocal_attention_layer {
  const void* q;      /* [T, H, D]: f32 on "cpu", bf16 on "cuda", there 16-byte aligned */
  void* out;          /* the same shape and type */
  int32_t num_tokens; /* T */
  int32_t first_page; /* of the layer in the cache: page id p is page first_page + p */
  const float* sinks; /* [H] or null */
} bifocal_attention_layer;

typedef struct bifocal_attention bifocal_attention;

BIFOCAL_API void bifocal_attention_defaults(bifocal_attention_options* options);

/* Chooses backends and takes all memory that steps will need. *out is null after an error. */
BIFOCAL_API bifocal_code bifocal_attention_create(const bifocal_attention_options* options,
                                                  bifocal_attention** out);
BIFOCAL_API void bifocal_attention_destroy(bifocal_attention* attention);

/* Where keys and values lie: two arrays [num_pages, HK, S, D], pages of all layers, which must outlive their
 * use. */
BIFOCAL_API bifocal_code bifocal_attention_set_cache(bifocal_attention* attention, void* k, void* v,
                                                     int32_t num_pages);

/* Once per step. stream: a cudaStream_t, null for the default one; both calls only enqueue and can be
 * captured in a graph. On "cpu" it must be null, and runs have ended when they return. BIFOCAL_UNSUPPORTED:
 * prompts for the backend "decode_mma", which here serves decode alone. */
BIFOCAL_API bifocal_code bifocal_attention_plan(bifocal_attention* attention,
                                                const bifocal_attention_batch* batch, void* stream);
/* Once per layer, of the step planned last. */
BIFOCAL_API bifocal_code bifocal_attention_run(bifocal_attention* attention,
                                               const bifocal_attention_layer* layer, void* stream);

/* "decode_mma (built-in rule: one query row per sequence)": lives as long as the handle. */
BIFOCAL_API const char* bifocal_attention_explain(const bifocal_attention* attention, bifocal_phase phase);

/* What was wrong with the calling thread's last call that failed. */
BIFOCAL_API const char* bifocal_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
