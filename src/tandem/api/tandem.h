/* The C interface of libtandem: load a model, look at it, run it, build hardware. Everything a binding needs, nothing
 * more; python/tandem.py is written on it.
 *
 * Functions that can fail return NULL and leave the error of the calling thread in tandem_last_error(). What a function
 * returns as `char*` is a JSON document that the caller gives back to tandem_string_free(). Nothing throws, nothing
 * exits. A model may be used by one thread at a time; different models by different threads. */
#ifndef TANDEM_API_TANDEM_H
#define TANDEM_API_TANDEM_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tandem_model tandem_model;
typedef struct tandem_result tandem_result;

/* A dense array, row-major. `dtype`: "f32", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool". */
typedef struct tandem_array {
  const char* name;     /* of the model's input or output */
  const char* dtype;
  int64_t rank;
  const int64_t* shape;
  const void* data;     /* the product of `shape` elements */
} tandem_array;

const char* tandem_version(void);

/* {"code", "message", "where", "expected", "fix", "text"} of the last failed call of this thread; "" when none failed.
 * `code` as the exit codes of the command line: 1 the answer is no, 2 bad input, 3 a tool is missing, 4 a limit, 70 a
 * defect of Tandem. Valid until the next call. */
const char* tandem_last_error(void);

/* An ONNX or QONNX file. */
tandem_model* tandem_load(const char* path);
void tandem_free(tandem_model*);

/* {"name", "inputs": [{"name", "dtype", "shape"}], "outputs": [...], "nodes": n}; a free extent is its name as text. */
char* tandem_describe(const tandem_model*);

/* Outputs for arrays under the names of the inputs. exact != 0: the one exact meaning of the quantised graph, else f32.
 * Arrays of a result live as long as the result. */
tandem_result* tandem_run(const tandem_model*, const tandem_array* inputs, size_t count, int exact);
size_t tandem_result_count(const tandem_result*);
const tandem_array* tandem_result_array(const tandem_result*, size_t i); /* NULL beyond the last */
void tandem_result_free(tandem_result*);

/* `options`: JSON or NULL. What each engine does with each node, as `tandem doctor MODEL --json`.
 * Keys: target, input_format. */
char* tandem_doctor(const tandem_model*, const char* options);

/* Verified hardware in the folder `out`, as `tandem build --json`; "ok" in the document says whether it was reached.
 * Keys of `options`: target, clock (MHz), throughput (frames/s), input_format, frames (random ones to verify on),
 * seed, place, verify, overwrite (the last three true or false). */
char* tandem_build(const tandem_model*, const char* out, const char* options);

void tandem_string_free(char*);

#ifdef __cplusplus
}
#endif
#endif
