/* din_infer in C: scores candidates with a Deep Interest Network that was exported to an ONNX file.
 *
 *   din_infer_model* model;
 *   if (din_infer_model_load("model.onnx", &model) != DIN_INFER_OK) fail(din_infer_last_error());
 *
 * Conventions, for every function unless it says otherwise:
 * - It returns a status. On failure it writes to no argument, and din_infer_last_error() says what was expected and
 * what came. No C++ exception leaves it.
 * - A null pointer where one is not allowed is DIN_INFER_INPUT_ERROR. `_free` takes null and does nothing with it.
 * - Strings are UTF-8 and end with a zero byte. What is passed in is not changed, and copied if it is needed after the
 *   call, except where a batch is said to point to it.
 * - What fills a batch refuses null pointers and sizes that cannot be; what it points to is looked at by the calls that
 *   read it. These return LOOKUP_ERROR where a row look-up of the caller's fails, beside the errors that they list.
 * - Handles come from functions that write them to their last argument, belong to the caller, and are freed by the
 *   `_free` of their type, in any order: what a handle needs of another one, it keeps alive itself.
 * - Models and registries may be used by any number of threads at once; of all other handles, each by one at a time.
 */
#ifndef DIN_INFER_DIN_INFER_H
#define DIN_INFER_DIN_INFER_H

#include <stddef.h>
#include <stdint.h>

#include "din_infer/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum din_infer_status {
  DIN_INFER_OK = 0,
  DIN_INFER_INPUT_ERROR = 1,      /* an argument that is not as described here, or does not fit the model's schema */
  DIN_INFER_MODEL_FILE_ERROR = 2, /* a file that is missing, damaged, of another version, or not understood */
  DIN_INFER_OUT_OF_MEMORY = 3,
  DIN_INFER_INTERNAL_ERROR = 4, /* a fault of the library's own; please report it */
  DIN_INFER_STALE_USER = 5,     /* a user of another model than the one that scores, mostly of a version that has been
                                   replaced; make the user again */
  DIN_INFER_LOOKUP_ERROR = 6    /* a function of the caller's that looks up rows said that it failed */
} din_infer_status;

/* An immutable model. */
typedef struct din_infer_model din_infer_model;
/* Views of the columns of some requests. */
typedef struct din_infer_batch din_infer_batch;
/* Scratch memory, and perhaps threads, to score batches with one model. */
typedef struct din_infer_scorer din_infer_scorer;
/* A user whose features and histories are embedded, for several lists of candidates. */
typedef struct din_infer_user din_infer_user;
/* A model that is replaced while it serves, with scorers for all threads. */
typedef struct din_infer_model_registry din_infer_model_registry;
/* What a scorer is, for an activation unit alone. */
typedef struct din_infer_activation_unit_runner din_infer_activation_unit_runner;

/* The library's version, `major.minor.patch`, in static memory. Cannot fail. */
DIN_INFER_API const char* din_infer_version(void);

/* What went wrong in this thread's last call that failed; empty where none has. Valid until the thread's next call that
 * fails. Cannot fail. */
DIN_INFER_API const char* din_infer_last_error(void);

/* Writes the name of the instruction set that the kernels run on, in static memory: the best that this machine has, or
 * what the environment variable DIN_INFER_TARGET names. INPUT_ERROR where that does not run here. */
DIN_INFER_API din_infer_status din_infer_target(const char** target);

/* ---- models ---- */

/* Loads the file at `path`, which is mapped, as is its external data, which is looked for in the file's folder: they
 * may be deleted or replaced by a rename while the model lives, but never written to. MODEL_FILE_ERROR, OUT_OF_MEMORY.
 */
DIN_INFER_API din_infer_status din_infer_model_load(const char* path, din_infer_model** model);

/* Loads a file's `size` bytes, of which it takes a copy, which is in memory once while the model lives: the caller's
 * may go. External data is looked for in `folder`, and nowhere else; a file that has none may be given "".
 * MODEL_FILE_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_load_bytes(const void* bytes, size_t size, const char* folder,
                                                          din_infer_model** model);

/* Scorers and runners that were made with the model go on working. */
DIN_INFER_API void din_infer_model_free(din_infer_model* model);

/* Writes a metadata entry of the file, JSON under `din_infer.schema` (what the model reads), `din_infer.semantics`
 * (what it computes), `din_infer.training` and `din_infer.certificate`, numbers under `din_infer.format_version` and
 * `din_infer.crc32`; null where it has no such key. The text is the model handle's: valid until that is freed. */
DIN_INFER_API din_infer_status din_infer_model_metadata(const din_infer_model* model, const char* key,
                                                        const char** value);

/* Writes the largest difference between a probability that the model gives now and the one that PyTorch gave at export
 * for the same candidate: of the edge-case requests in the file's certificate. NaN counts as 1. What loads a registry's
 * versions refuses more than 1e-5; din_infer_model_load does not look. MODEL_FILE_ERROR where the file has no
 * certificate; OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_certificate_error(const din_infer_model* model, double* error);

/* Writes the bytes of main memory of tables, mapped ones included, vocabularies, packed weights, and the candidates'
 * first layers that are kept now, at most 64 MiB for each history. */
DIN_INFER_API din_infer_status din_infer_model_memory_bytes(const din_infer_model* model, size_t* bytes);

/* Writes how many ids of `column` the model did not know, and scored with their table's default row, in all scoring so
 * far. INPUT_ERROR for a column that the model does not look up. */
DIN_INFER_API din_infer_status din_infer_model_unknown_ids(const din_infer_model* model, const char* column,
                                                           int64_t* count);

/* Writes the multiply-adds of all scoring with the model so far: what was done, and what it would have taken request by
 * request. */
DIN_INFER_API din_infer_status din_infer_model_multiply_adds(const din_infer_model* model, int64_t* request,
                                                             int64_t* done);

/* ---- batches ----
 * Columns are named as in the model's schema, `<group>.<feature>`, and a model wants exactly those that it has. A batch
 * points to the caller's memory, which has to stay as it is while the batch is scored; what to point to can be set
 * again for the next call, which allocates nothing. Whether columns fit a model is found out by the calls that take
 * both. */

/* An empty batch of no requests. OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_batch_create(din_infer_batch** batch);
DIN_INFER_API void din_infer_batch_free(din_infer_batch* batch);

/* Columns are not touched: those that hold a value or a list for each request have to be set to as many. INPUT_ERROR
 * below 0. */
DIN_INFER_API din_infer_status din_infer_batch_set_requests(din_infer_batch* batch, int64_t requests);

/* With `shared` other than 0 (it is 0 in an empty batch), the candidate columns hold one list, a catalogue, and every
 * request scores all of it: requests times catalogue scores, request after request. */
DIN_INFER_API din_infer_status din_infer_batch_set_shared_candidates(din_infer_batch* batch, int shared);

/* Each sets column `name` to `size` values at `values`, in place of what it was, without lists and without a row
 * look-up. INPUT_ERROR, with the column as it was, for a size below 0 and for null where it is above 0; OUT_OF_MEMORY.
 * Ids ... */
DIN_INFER_API din_infer_status din_infer_batch_set_int64s(din_infer_batch* batch, const char* name,
                                                          const int64_t* values, int64_t size);
/* ... numbers of dense features, which have to be finite ... */
DIN_INFER_API din_infer_status din_infer_batch_set_floats(din_infer_batch* batch, const char* name, const float* values,
                                                          int64_t size);
/* ... string ids: value i is the bytes [offsets[i], offsets[i + 1]) of `characters`; `offsets` has size + 1 entries,
 * from 0, never going down. Characters behind the last are not read; that there are so many is trusted. They may be any
 * bytes, and null where there are none. ... */
DIN_INFER_API din_infer_status din_infer_batch_set_strings(din_infer_batch* batch, const char* name,
                                                           const char* characters, const int64_t* offsets,
                                                           int64_t size);
/* ... or, in place of ids, embeddings of the caller's own: `size` rows of `width` floats each, row-major, where `width`
 * is the `dim` of the feature's table. Scores are those of ids with these rows; nothing is looked up or counted as
 * unknown; several values of a feature are pooled as those of ids are. A number that is not finite stays in the scores
 * of its candidate, or of its request. */
DIN_INFER_API din_infer_status din_infer_batch_set_embeddings(din_infer_batch* batch, const char* name,
                                                              const float* rows, int64_t size, int64_t width);

/* Ids whose rows a caller's function is to write. All but `rows` is to be read, and nothing is to be kept. */
typedef struct din_infer_row_request {
  const char* table;             /* as the schema names it; features that name one table share its rows */
  const int64_t* int64_ids;      /* [count]; null where ids are strings */
  const char* characters;        /* strings: id i is the bytes [string_offsets[i], string_offsets[i + 1]) */
  const int64_t* string_offsets; /* [count + 1]; null where ids are int64 */
  int64_t count;                 /* at least 1; ids may come again, and be unknown */
  int64_t width;                 /* of a row: the `dim` of the table */
  float* rows;                   /* [count, width], row-major, NaN before the call */
} din_infer_row_request;

/* Returns 0, or anything else for a failure: the call that asked then fails with LOOKUP_ERROR. `context` is what was
 * given with the function. It may call the library, but not with the scorer, runner or user of the call that asked. No
 * C++ exception may leave it. */
typedef int (*din_infer_row_lookup)(void* context, const din_infer_row_request* request);

/* Has `lookup` give the rows of column `name`, which has been set to ids, in place of the model's table, until the
 * column is set again; null takes it away. A call that reads the rows of the batch (scoring, explaining, making a user)
 * asks once for each such column, for all its values in their order, in the thread that makes the call and before it
 * scores; then everything is as with embeddings, whose memory, size * width floats, a scorer keeps for the next call.
 * Rows that `lookup` leaves as they were are NaN, and so are the scores that read them. */
DIN_INFER_API din_infer_status din_infer_batch_set_row_lookup(din_infer_batch* batch, const char* name,
                                                              din_infer_row_lookup lookup, void* context);

/* Adds a level of lists, inside those that column `name`, which has been set, has so far: list i holds the elements
 * [offsets[i], offsets[i + 1]) of the level inside. Offsets start at 0, never go down, and end at the size of that
 * level: of a slice of a larger array, the slice's own. `size` is the number of offsets, one more than there are lists;
 * INPUT_ERROR below 1 and for null, OUT_OF_MEMORY.
 * Columns of users and contexts have no lists, of candidates and histories one level, a list per request; where a
 * feature has several values, there is one more level, a list of values. */
DIN_INFER_API din_infer_status din_infer_batch_add_lists(din_infer_batch* batch, const char* name,
                                                         const int64_t* offsets, int64_t size);

/* ---- scoring ---- */

/* Flags of options, added up; 0 for none. */
enum {
  DIN_INFER_AUTO_FOLD = 1, /* fold on the history's side where that is faster: scores within 1e-6 of the default's */
  DIN_INFER_AUTO_PLAN = 2, /* score candidate by candidate, not request by request, where requests have so much in
                              common that this takes clearly less work: the same scores */
  DIN_INFER_TIMINGS = 4    /* take the times of each call, for din_infer_scorer_timings; off, no clock is read */
};

/* Threads of the caller's in place of the library's pool: a serving framework's, so that one pool has all the work.
 *
 *   static void parallel_for(void* pool, int64_t count, void (*task)(void*, int64_t), void* context) {
 *     for (int64_t i = 1; i < count; ++i) pool_start(pool, task, context, i);
 *     task(context, 0);
 *     pool_wait(pool);
 *   }
 *   din_infer_scorer_options options = {.size = sizeof options, .threads = 8, .executor = {parallel_for, pool}};
 */
typedef struct din_infer_executor {
  /* Calls task(context, i) exactly once for each i in [0, count), on any threads, in any order, at once or one after
   * the other, and returns when all these calls have. They have to see what the calling thread wrote before, and it
   * what they wrote: that comes with starting and joining threads, and with any queue under a mutex. `count` is at
   * least 2 and at most the number of threads asked for. Tasks never wait for one another, and call no parallel_for. No
   * C++ exception leaves a task, and none may leave parallel_for, nor may longjmp.
   *
   * One call of the library's may call it several times, from the thread that made that call, which may be one of the
   * executor's own. Scorers of several threads, and a registry, whose loading thread scores too, call it at once. While
   * it waits for tasks, a thread may do other work, but none with the same scorer or runner. An index that comes twice,
   * is another, or is left out makes the library's call an INPUT_ERROR.
   *
   * Null: the library's pool. */
  void (*parallel_for)(void* state, int64_t count, void (*task)(void* context, int64_t index), void* context);
  void* state; /* the caller's; has to outlive what was given the executor, which is copied */
} din_infer_executor;

/* Of a scorer, and of the scorers of a registry. Zeros are what there is without options:
 *
 *   din_infer_scorer_options options = {.size = sizeof options, .threads = 2};
 *
 * Later versions may add fields at the end. A caller that was compiled before leaves them at zero, as its `size` says;
 * a library from before takes them where they are zero, and says INPUT_ERROR where they are not. */
typedef struct din_infer_scorer_options {
  size_t size;    /* sizeof(din_infer_scorer_options) */
  int threads;    /* that a call may use, 1 to 1024: the calling one and, where that pays, the library's, or an
                   * executor's; 0 is 1 */
  unsigned flags; /* DIN_INFER_AUTO_FOLD, DIN_INFER_AUTO_PLAN, DIN_INFER_TIMINGS */
  /* Bytes of scratch memory that may stay from call to call; 0: any number. No request is refused for it: a call takes
   * what it needs, and one that leaves more frees all of it before it returns, so the next call allocates anew. */
  size_t max_scratch_bytes;
  din_infer_executor executor; /* not called where `threads` is 1 */
} din_infer_scorer_options;

/* What a batch has in common, and the multiply-adds that scoring it takes. Zeros for a base model, whose candidates all
 * share one pooled history. */
typedef struct din_infer_plan_report {
  int64_t candidates, distinct_candidates; /* distinct: in their features */
  int64_t pairs, distinct_pairs;           /* of a candidate and a behaviour of its request */
  int64_t request, candidate;              /* multiply-adds request by request, and candidate by candidate */
  int64_t chosen;                          /* multiply-adds of what DIN_INFER_AUTO_PLAN does */
} din_infer_plan_report;

/* options: copied; null for one thread and no flags. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_scorer_create(const din_infer_model* model,
                                                       const din_infer_scorer_options* options,
                                                       din_infer_scorer** scorer);
DIN_INFER_API void din_infer_scorer_free(din_infer_scorer* scorer);

/* Writes the number of candidates of all requests of the batch. INPUT_ERROR where it does not fit the model. */
DIN_INFER_API din_infer_status din_infer_scorer_candidates(const din_infer_scorer* scorer, const din_infer_batch* batch,
                                                           int64_t* candidates);

/* Writes a probability for each candidate, in the order given, to scores[0 .. size); `size` has to be the number of
 * candidates, and `scores` may be null where that is 0. On failure `scores` holds anything. INPUT_ERROR,
 * OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_scorer_score(din_infer_scorer* scorer, const din_infer_batch* batch,
                                                      float* scores, int64_t size);

/* Writes what DIN_INFER_AUTO_PLAN weighs up before it scores the batch, whatever the scorer's flags; scores nothing.
 * INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_scorer_explain_plan(din_infer_scorer* scorer, const din_infer_batch* batch,
                                                             din_infer_plan_report* report);

/* Where the time of a call went, in seconds. `total` is what passed; each other is summed over the threads, so that
 * together they are at most threads times `total`. What is in none of them: checking the batch, finding what requests
 * have in common, and waiting. */
typedef struct din_infer_timings {
  double total;   /* from the begin of the call to its end */
  double look_up; /* embedding users, contexts, candidates and behaviours, a caller's row look-up included */
  double fold;    /* folding into the activation units' first layers; none in a base model */
  double unit;    /* the rest of the activation units, and pooling */
  double tower;
} din_infer_timings;

/* Writes the times of the scorer's last call that scored; zeros where it failed, before the first one, and without
 * DIN_INFER_TIMINGS. */
DIN_INFER_API din_infer_status din_infer_scorer_timings(const din_infer_scorer* scorer, din_infer_timings* timings);

/* Writes the bytes of scratch memory that calls have left for the next, which grow to what the largest took. A thread
 * pool's memory is not in it. */
DIN_INFER_API din_infer_status din_infer_scorer_scratch_bytes(const din_infer_scorer* scorer, size_t* bytes);

/* Frees the scratch memory; the next call allocates anew, and gives the same scores. */
DIN_INFER_API din_infer_status din_infer_scorer_shrink(din_infer_scorer* scorer);

/* Writes with what weight each behaviour of `history` is added to the user interest of each candidate: request after
 * request, candidate after candidate, behaviour after behaviour, those that the schema's max_length leaves out with 0.
 * `size` has to be the sum over requests of candidates times behaviours. Takes one thread. INPUT_ERROR,
 * OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_explain(const din_infer_model* model, const din_infer_batch* batch,
                                                 const char* history, float* weights, int64_t size);

/* ---- a user with several lists of candidates: pages, stages ---- */

/* Embeds a user's features and histories. batch: one request with the columns of user and histories alone, whose memory
 * may go afterwards. Unknown ids are counted here, and not again by scoring. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_user_create(const din_infer_model* model, const din_infer_batch* batch,
                                                     din_infer_user** user);
/* A user of its own, to append to while others score with the first one. OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_user_copy(const din_infer_user* user, din_infer_user** copy);
DIN_INFER_API void din_infer_user_free(din_infer_user* user);

/* Adds newer behaviours, each history's in the schema's order: behind the others, or before them where the newest come
 * first. What exceeds max_length is dropped, as of a request. behaviours: one request with the columns of all
 * histories; those that have nothing new have empty lists. On failure the user is as before. INPUT_ERROR,
 * OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_user_append(din_infer_user* user, const din_infer_batch* behaviours);

/* Writes the bytes of main memory that the user takes, apart from its model. */
DIN_INFER_API din_infer_status din_infer_user_memory_bytes(const din_infer_user* user, size_t* bytes);

/* Writes the number of candidates of all lists of `batch`, which is as for din_infer_scorer_score_user. INPUT_ERROR,
 * STALE_USER. */
DIN_INFER_API din_infer_status din_infer_scorer_candidates_user(const din_infer_scorer* scorer,
                                                                const din_infer_user* user,
                                                                const din_infer_batch* batch, int64_t* candidates);

/* din_infer_scorer_score for lists of candidates of one user. `batch` has the columns of context and candidates alone,
 * a request for each list; the scores are those of requests that have the user's columns each. Scorers of several
 * threads may be given one user at once, while none appends to it. INPUT_ERROR, OUT_OF_MEMORY; STALE_USER where the
 * user was made with another model than the scorer: another load of the same file is another model. */
DIN_INFER_API din_infer_status din_infer_scorer_score_user(din_infer_scorer* scorer, const din_infer_user* user,
                                                           const din_infer_batch* batch, float* scores, int64_t size);

/* ---- replacing a model while it serves ---- */

/* Loads the first version, from a file, in this thread, and checks it as `replace` does. options: of its
 * scorers, copied; null for one thread and no flags. INPUT_ERROR, MODEL_FILE_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_registry_create(const char* path,
                                                               const din_infer_scorer_options* options,
                                                               din_infer_model_registry** registry);
/* Waits for what is being loaded. No other call on the registry may be running. */
DIN_INFER_API void din_infer_model_registry_free(din_infer_model_registry* registry);

/* din_infer_scorer_score with a scorer of the version that serves now, which threads take in turns: as many are made as
 * calls run at once. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_registry_score(din_infer_model_registry* registry,
                                                              const din_infer_batch* batch, float* scores,
                                                              int64_t size);

/* din_infer_user_create with the model that serves now. The user keeps that version in memory, and it alone can score
 * with it: see below. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_registry_user(const din_infer_model_registry* registry,
                                                             const din_infer_batch* batch, din_infer_user** user);

/* din_infer_scorer_score_user with a scorer of the version that serves now. STALE_USER where that is not the user's,
 * since the model has been replaced; make the user again with din_infer_model_registry_user. INPUT_ERROR,
 * OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_registry_score_user(din_infer_model_registry* registry,
                                                                   const din_infer_user* user,
                                                                   const din_infer_batch* batch, float* scores,
                                                                   int64_t size);

/* Writes a handle of the model that serves now, which the caller frees: that version stays in memory until then. */
DIN_INFER_API din_infer_status din_infer_model_registry_model(const din_infer_model_registry* registry,
                                                              din_infer_model** model);

/* Writes 1, and 1 more after each replacement. */
DIN_INFER_API din_infer_status din_infer_model_registry_version(const din_infer_model_registry* registry,
                                                                int64_t* version);

/* Writes a scorer of the version that serves now, for calls that need more than a registry's own functions have: times,
 * the version that scored (written to `version`, where that is not null), a plan. It keeps its version in memory: it is
 * given back with din_infer_scorer_free, after each call or a few. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_registry_lease(din_infer_model_registry* registry, int64_t* version,
                                                              din_infer_scorer** scorer);

/* Loads a file in the background, checks that its certificate's probabilities come out within 1e-5, warms it up, and
 * lets it serve; running calls end on the old version, which is freed after them. Returns at once. A file that is
 * refused changes nothing but what `wait` and `error` return. Of files that are given while one is being loaded, the
 * last one is next. The same file again is another version. OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_model_registry_replace(din_infer_model_registry* registry, const char* path);

/* Waits until nothing is being loaded. MODEL_FILE_ERROR where the last file was refused; the last error says why. */
DIN_INFER_API din_infer_status din_infer_model_registry_wait(const din_infer_model_registry* registry);

/* The same at once, for a loop that must not wait: `loading` writes 1 while a file is being loaded or is next, 0 else;
 * `error` is MODEL_FILE_ERROR where the last file that was loaded was refused: the last one given, once none is being
 * loaded. */
DIN_INFER_API din_infer_status din_infer_model_registry_loading(const din_infer_model_registry* registry, int* loading);
DIN_INFER_API din_infer_status din_infer_model_registry_error(const din_infer_model_registry* registry);

/* ---- the activation unit alone, on the caller's own embeddings ---- */

/* `size` floats at `data`; null with 0 for none. */
typedef struct din_infer_float_view {
  const float* data;
  int64_t size;
} din_infer_float_view;

/* A linear layer, as torch.nn.Linear has it, and what the activation behind it learned. */
typedef struct din_infer_unit_layer {
  int64_t outputs, inputs;
  din_infer_float_view weights; /* [outputs, inputs], row-major */
  din_infer_float_view biases;  /* [outputs] */
  din_infer_float_view alpha;   /* hidden layers of prelu and dice: [1] or [outputs]; else empty */
  din_infer_float_view mean;    /* hidden layers of dice: [outputs]; else empty */
  din_infer_float_view var;     /* as mean; the biased variance */
  float eps;                    /* hidden layers of dice */
} din_infer_unit_layer;

/* Embeddings grouped by request: request r has the rows [offsets[r], offsets[r + 1]) of values [rows, D]. */
typedef struct din_infer_rows {
  const float* values; /* null where there are no rows */
  int64_t rows;
  const int64_t* offsets; /* from 0 to `rows`, never going down */
  int64_t offsets_size;   /* requests + 1 */
} din_infer_rows;

/* Of a runner. Zeros are what there is without options; `size` as in din_infer_scorer_options. */
typedef struct din_infer_activation_unit_runner_options {
  size_t size;    /* sizeof(din_infer_activation_unit_runner_options) */
  int threads;    /* as in din_infer_scorer_options */
  unsigned flags; /* DIN_INFER_AUTO_FOLD for the unit of a model; 0 else */
  din_infer_executor executor;
  size_t max_scratch_bytes; /* as in din_infer_scorer_options */
} din_infer_activation_unit_runner_options;

/* Packs an activation unit, whose parameters may go afterwards.
 * interaction: "outer", whose input is [k, q, vec(k (x) q)], or "hadamard", [q, k, q - k, q * k].
 * activation: "sigmoid", "relu", "prelu", "tanh", "dice" or "bisigmoid". normalize: "none" or "softmax".
 * scale: a factor on weights before the softmax; null for none.
 * layers: layer_count of them, 1 to 1024, the last with one output. options: copied, here and below; null for one
 * thread. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_activation_unit_runner_create(
    const char* interaction, const char* activation, const char* normalize, const float* scale,
    const din_infer_unit_layer* layers, int64_t layer_count, const din_infer_activation_unit_runner_options* options,
    din_infer_activation_unit_runner** runner);

/* The unit of one of a model's histories. INPUT_ERROR for an unknown history and for a base model; OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_activation_unit_runner_of_model(
    const din_infer_model* model, const char* history, const din_infer_activation_unit_runner_options* options,
    din_infer_activation_unit_runner** runner);

/* A runner for another thread that shares the unit of `other`. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_activation_unit_runner_share(
    const din_infer_activation_unit_runner* other, const din_infer_activation_unit_runner_options* options,
    din_infer_activation_unit_runner** runner);
DIN_INFER_API void din_infer_activation_unit_runner_free(din_infer_activation_unit_runner* runner);

/* Writes D, the width of keys and queries. */
DIN_INFER_API din_infer_status din_infer_activation_unit_runner_dim(const din_infer_activation_unit_runner* runner,
                                                                    int64_t* dim);

/* Writes the user interest of each query, u(q) = sum_t c_t a(k_t, q) k_t, to interests[0 .. size), row-major
 * [queries->rows, D], zeros where a query's request has no keys. Keys and queries have as many requests.
 * counts: [keys->rows], how often each key occurs, at least once; null: once each.
 * `interests` must not overlap keys or queries, and is as before on failure, but for that of an executor, after
 * which it holds anything. INPUT_ERROR, OUT_OF_MEMORY. */
DIN_INFER_API din_infer_status din_infer_activation_unit_runner_run(din_infer_activation_unit_runner* runner,
                                                                    const din_infer_rows* keys,
                                                                    const din_infer_rows* queries,
                                                                    const int64_t* counts, float* interests,
                                                                    int64_t size);

/* din_infer_scorer_scratch_bytes and din_infer_scorer_shrink of a runner; the unit and its folds are not in it. */
DIN_INFER_API din_infer_status
din_infer_activation_unit_runner_scratch_bytes(const din_infer_activation_unit_runner* runner, size_t* bytes);
DIN_INFER_API din_infer_status din_infer_activation_unit_runner_shrink(din_infer_activation_unit_runner* runner);

#ifdef __cplusplus
}
#endif

#endif
