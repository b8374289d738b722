// din_infer: scores candidates with a Deep Interest Network (arXiv 1706.06978) that was exported to an ONNX file.
//
//   din_infer::Model model = din_infer::Model::load("model.onnx");
//   din_infer::Scorer scorer(model, {/*threads=*/1});
//   din_infer::Batch batch;
//   batch.requests = 1;
//   batch.columns["history.item_id"] = din_infer::Column::int64s(ids, 3).list(history_offsets, 2);
//   ...
//   scorer.score(batch, scores);
//
// Errors are exceptions derived from din_infer::Error that say what was expected and what came, and std::bad_alloc
// where there is no memory. Models and registries may be used by any number of threads at once; of all other objects,
// each by one at a time, but where a class says otherwise. What one needs of another, it keeps alive itself. An object
// that has been moved from may be assigned to and destroyed, and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "din_infer/export.h"

namespace din_infer {

// Version of the library, `major.minor.patch`.
DIN_INFER_API const char* version();

struct DIN_INFER_API Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Requests that do not fit the schema: wrong type or shape, missing or unknown columns, bad offsets.
struct DIN_INFER_API InputError : Error {
  using Error::Error;
};

// A user of another model than the one that is to score: mostly of an older version, replaced in the meantime. The user
// has to be prepared again, with the model that serves now.
struct DIN_INFER_API StaleUserError : InputError {
  using InputError::InputError;
};

// A model file that is damaged, hostile, of another format version, or not a DIN that is understood.
struct DIN_INFER_API ModelFileError : Error {
  using Error::Error;
};

// The instruction set that the kernels run on: the best that this machine has, or what the environment variable
// DIN_INFER_TARGET names. Throws InputError where it names one that does not run here.
DIN_INFER_API const char* target();

// Offsets of one level of lists: list i holds the elements [data[i], data[i + 1]) of the level inside. They start at 0,
// never go down, and end at the size of that level: of a slice of a larger array, the slice's own.
struct Offsets {
  const int64_t* data = nullptr;
  int64_t size = 0;  // number of lists + 1; 0 where there is no such level
};

// Ids whose rows a caller's function is to write. All but `rows` is to be read, and nothing is to be kept.
struct RowRequest {
  const char* table;              // as the schema names it; features that name one table share its rows
  const int64_t* int64_ids;       // [count]; null where ids are strings
  const char* characters;         // strings: id i is [string_offsets[i], string_offsets[i + 1])
  const int64_t* string_offsets;  // [count + 1]; null where ids are int64
  int64_t count;                  // at least 1; ids may come again, and be unknown
  int64_t width;                  // of a row: the table's `dim`
  float* rows;                    // [count, width], row-major, NaN before the call
};

// Writes the rows that the caller's own embedding service has for some ids. What it throws leaves the call that asked.
using RowLookup = std::function<void(const RowRequest&)>;

// A view of one column of a batch; the caller keeps the memory. Exactly one of the four value pointers is set, for any
// `size`.
struct DIN_INFER_API Column {
  const int64_t* int64_values = nullptr;
  const float* float_values = nullptr;
  const char* characters = nullptr;         // strings: value i is [string_offsets[i], string_offsets[i + 1])
  const int64_t* string_offsets = nullptr;  // [size + 1], from 0, never going down
  const float* embedding_values = nullptr;  // [size, embedding_width], row-major
  int64_t embedding_width = 0;              // the `dim` of the feature's table
  int64_t size = 0;                         // values
  RowLookup row_lookup;                     // of ids; empty: their rows are those of the model's table
  std::vector<Offsets> lists;  // outermost first: a history's [requests + 1], then a multi-valued feature's

  static Column int64s(const int64_t* values, int64_t size);
  static Column floats(const float* values, int64_t size);
  static Column strings(const char* characters, const int64_t* offsets, int64_t size);
  // Rows of the caller's own in place of ids, for any feature that has a table: scores are those of ids with these
  // rows, and nothing is looked up or counted as unknown. Several values of a feature are pooled as those of ids are. A
  // number that is not finite stays in the scores of its candidate, or of its request.
  static Column embeddings(const float* rows, int64_t size, int64_t width);
  Column list(const int64_t* offsets, int64_t size) &&;  // adds a level of lists inside those there are
  // Has `lookup` give the rows of the ids. A call that reads the rows of a batch (scoring, explaining, a new User) asks
  // once for each such column, for all its values in their order, in the thread that makes the call and before it
  // scores; then everything is as with `embeddings`, whose memory, size * width floats, the scorer keeps for the next
  // call. Rows that `lookup` leaves as they were are NaN, and so are the scores that read them.
  Column rows_from(RowLookup lookup) &&;
};

// Requests by column name, as the model's schema names them: `user.age`, `candidate.item_id`, `history.item_id`.
struct Batch {
  int64_t requests = 0;
  std::map<std::string, Column, std::less<>> columns;
  bool shared_candidates = false;  // candidate columns hold one list, a catalogue, which every request scores
};

// What scoring took, and what it would have taken request by request.
struct MultiplyAdds {
  int64_t request = 0, done = 0;
};

// A model, immutable and cheap to copy: copies share it. Its file is mapped, and so are external tables: they may be
// deleted or replaced by a rename while it lives, but never written to.
class DIN_INFER_API Model {
 public:
  // The file at `path`, or a file's bytes, whose external tables are looked for in `folder` and nowhere else ("" where
  // there are none). Bytes that are moved here are in memory once, as long as the model lives. Throw ModelFileError.
  static Model load(const std::string& path);
  static Model load_bytes(std::string bytes, const std::string& folder);

  // Of the file, JSON under `din_infer.schema` (what the model reads), `din_infer.semantics` (what it computes),
  // `din_infer.training` and `din_infer.certificate`, numbers under `din_infer.format_version` and
  // `din_infer.crc32`. As long as a copy of the model lives.
  const std::map<std::string, std::string>& metadata() const;

  // Of tables, mapped ones included, vocabularies, packed weights, and the candidates' first layers that are kept now,
  // at most 64 MiB for each history.
  size_t memory_bytes() const;

  // Ids that a column's vocabulary or range does not have, and that were scored with the table's default row: by
  // column, in all scoring with this model so far.
  std::map<std::string, int64_t> unknown_ids() const;

  MultiplyAdds multiply_adds() const;  // of all batches that were scored with this model so far

  struct DIN_INFER_HIDDEN Parts;
  const Parts& parts() const { return *parts_; }

 private:
  explicit Model(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;
};

// A user whose features and histories are embedded once, for several lists of candidates: pages, stages. Any number of
// threads may score with it at once, while none appends. It keeps its model in memory, replaced or not.
class DIN_INFER_API User {
 public:
  // `batch`: one request with the columns of user and histories alone, whose memory may go afterwards. Unknown ids are
  // counted here, and not again by scoring. Throws InputError.
  User(Model model, const Batch& batch);
  ~User();
  User(const User&);  // a user of its own: to append to it while others score with the first one
  User(User&&) noexcept;
  User& operator=(User) noexcept;

  // Adds newer behaviours, each history's in the schema's order: behind the others, or before them where the newest
  // come first. What exceeds max_length is dropped, as of a request. `behaviours`: one request with the columns of all
  // histories; those that have nothing new have empty lists. Throws InputError; the user is then as before.
  void append(const Batch& behaviours);

  size_t memory_bytes() const;  // apart from the model

  struct DIN_INFER_HIDDEN State;
  const State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// How a batch is scored; scores have the same bits under each.
enum class Plan {
  kRequest,  // request by request
  kAuto,     // candidate by candidate where requests have so much in common that this takes clearly less work
};

// Threads of the caller's in place of the library's pool: a serving framework's, so that one pool has all the work.
//
//   din_infer::ScorerOptions options;
//   options.threads = 8;
//   options.executor.parallel_for = [](void*, int64_t count, void (*task)(void*, int64_t), void* context) {
//     tbb::parallel_for(int64_t{0}, count, [=](int64_t i) { task(context, i); });
//   };
struct Executor {
  // Calls task(context, i) exactly once for each i in [0, count), on any threads, in any order, at once or one after
  // the other, and returns when all these calls have. They have to see what the calling thread wrote before, and it
  // what they wrote: that comes with starting and joining threads, and with any queue under a mutex. `count` is at
  // least 2 and at most the number of threads asked for. Tasks never wait for one another, call no parallel_for, and
  // throw nothing.
  //
  // One call of the library's may call it several times, from the thread that made that call, which may be one of the
  // executor's own. Scorers of several threads, and a registry, whose loading thread scores too, call it at once. While
  // it waits for tasks, a thread may do other work, but none with the same Scorer or runner. It may throw once no task
  // runs or will run: the library's call throws the same, and InputError for an index that comes twice, is another, or
  // is left out.
  //
  // Null: the library's pool.
  void (*parallel_for)(void* state, int64_t count, void (*task)(void* context, int64_t index), void* context) = nullptr;
  void* state = nullptr;  // the caller's; has to outlive what was given the executor
};

// Where the time of a call went, in seconds. `total` is what passed; each other is summed over the threads, so that
// together they are at most threads times `total`. What is in none of them: checking the batch, finding what requests
// have in common, and waiting.
struct Timings {
  double total = 0;    // from the begin of the call to its end
  double look_up = 0;  // embedding users, contexts, candidates and behaviours, a caller's row look-up included
  double fold = 0;     // folding into the activation units' first layers; none in a base model
  double unit = 0;     // the rest of the activation units, and pooling
  double tower = 0;
};

struct ScorerOptions {
  int threads = 1;  // 1 to 1024 that a call may use: its own and, where that pays, the library's, or an executor's
  Plan plan = Plan::kRequest;
  // Folds on the history's side where that is faster: scores then stay within 1e-6 of, but are not the bits of, the
  // default.
  bool auto_fold = false;
  Executor executor = {};  // not called where threads is 1
  bool timings = false;    // take Scorer::timings of each call; off, no clock is read
  // Scratch memory that may stay from call to call, in bytes; 0: any. No request is refused for it: a call takes what
  // it needs, and one that leaves more frees all of it before it returns, so the next call allocates anew.
  size_t max_scratch_bytes = 0;
};

// What a batch has in common, and the multiply-adds that scoring it takes. Zeros for a base model, whose candidates all
// share one pooled history.
struct PlanReport {
  int64_t candidates = 0, distinct_candidates = 0;  // distinct: in their features
  int64_t pairs = 0, distinct_pairs = 0;            // of a candidate and a behaviour of its request
  int64_t request = 0, candidate = 0;               // multiply-adds request by request, and candidate by candidate
  int64_t chosen = 0;                               // multiply-adds of what Plan::kAuto does
};

// Scores batches, with scratch memory of its own: for one thread at a time.
class DIN_INFER_API Scorer {
 public:
  explicit Scorer(Model model, ScorerOptions options = {});  // throws InputError unless threads are 1 to 1024
  ~Scorer();
  Scorer(Scorer&&) noexcept;
  Scorer& operator=(Scorer&&) noexcept;

  // Candidates in the batch, which is the number of scores. Throws InputError where the batch does not fit the schema.
  int64_t candidates(const Batch& batch) const;

  // Writes one probability per candidate, in the order given, to scores[0 .. candidates(batch)); null will do where
  // that is 0, and is an InputError else. Throws InputError, and what a row look-up throws; `scores` is then
  // unspecified.
  void score(const Batch& batch, float* scores);

  // The same for lists of candidates of one user. `batch` has the columns of context and candidates alone, a request
  // for each list; scores have the bits that they have where the user's columns are in each request. Request by
  // request, whatever the plan. Throws InputError; StaleUserError for a user of another model, such as an older version
  // of this one: the scorer's model has to be the user's or a copy of it.
  int64_t candidates(const User& user, const Batch& batch) const;
  void score(const User& user, const Batch& batch, float* scores);

  // What Plan::kAuto weighs up before it scores the batch; scores nothing. Throws InputError.
  PlanReport explain_plan(const Batch& batch);

  // Of the last call of `score`; zeros where it threw, before the first one, and without ScorerOptions::timings.
  Timings timings() const;

  // Scratch memory that calls have left for the next: it grows to what the largest took. The thread pool's is not in
  // it.
  size_t scratch_bytes() const;
  void shrink();  // frees it; the next call allocates anew, with the same scores. Cannot fail.

 private:
  struct DIN_INFER_HIDDEN State;
  std::unique_ptr<State> state_;
};

// The weights with which a history's behaviours are added up for each candidate, after scale and softmax: request after
// request, candidate after candidate, one per behaviour in the order given. Behaviours that max_length leaves out have
// 0; under a base model all others have 1 (sum) or 1 / T (mean). Throws InputError, also for an unknown history.
DIN_INFER_API std::vector<float> explain(const Model& model, const Batch& batch, const std::string& history);

// Floats in the caller's memory.
struct FloatView {
  const float* data = nullptr;
  int64_t size = 0;
};

// A linear layer of an activation unit, as torch.nn.Linear has it, and what the activation behind it learned.
struct UnitLayer {
  int64_t outputs = 0, inputs = 0;
  FloatView weights;    // [outputs, inputs], row-major
  FloatView biases;     // [outputs]
  FloatView alpha;      // hidden layers of prelu and dice: [1] or [outputs]; else empty
  FloatView mean, var;  // hidden layers of dice: [outputs], var the biased variance; else empty
  float eps = 0;        // hidden layers of dice
};

// An activation unit (arXiv 1706.06978, section 4.3) of any number of hidden layers. Names are those of Python's
// ActivationUnitParams: interaction `outer`, whose input is [k, q, vec(k (x) q)] with vec(k (x) q)[i * D + j] =
// k_i q_j, or `hadamard`, [q, k, q - k, q * k]; activation `sigmoid`, `relu`, `prelu`, `tanh`, `dice` or `bisigmoid`;
// normalize `none`, or `softmax` over a request's keys; scale, a factor on weights before the softmax.
struct ActivationUnitParams {
  std::string interaction = "outer";
  std::vector<UnitLayer> layers;  // the last has one output
  std::string activation = "sigmoid";
  std::string normalize = "none";
  std::optional<float> scale;
};

// Embeddings grouped by request: request r has the rows [offsets.data[r], offsets.data[r + 1]) of [rows, D].
struct Rows {
  const float* values = nullptr;
  int64_t rows = 0;
  Offsets offsets;  // requests + 1 of them
};

// As in ScorerOptions.
struct ActivationUnitRunnerOptions {
  int threads = 1;
  bool auto_fold = false;  // for the unit of a model; an InputError else
  Executor executor = {};
  size_t max_scratch_bytes = 0;
};

// Runs an activation unit alone, on embeddings that the caller has. For one thread at a time; runners that share one
// unit, which is immutable, may run at once.
class DIN_INFER_API ActivationUnitRunner {
 public:
  // Packs the parameters, whose memory may go afterwards. Throws InputError where shapes or values do not fit, here and
  // below also for options that are not as described.
  explicit ActivationUnitRunner(const ActivationUnitParams& params, const ActivationUnitRunnerOptions& options = {});
  // The unit of one of a model's histories, with the folds that the model keeps. Throws InputError for an unknown
  // history and for a base model.
  ActivationUnitRunner(const Model& model, const std::string& history, const ActivationUnitRunnerOptions& options = {});
  // Shares the other one's unit, and its auto_fold.
  ActivationUnitRunner(const ActivationUnitRunner& other, const ActivationUnitRunnerOptions& options);
  ~ActivationUnitRunner();
  ActivationUnitRunner(ActivationUnitRunner&&) noexcept;
  ActivationUnitRunner& operator=(ActivationUnitRunner&&) noexcept;

  int64_t dim() const;  // D, the width of keys and queries

  // Writes the user interest u(q) = sum_t c_t a(k_t, q) k_t of each query, [queries.rows, D], zeros where its request
  // has no keys. `counts` [keys.rows]: how often each key occurs, at least once; null means once. Its bits depend
  // (auto_fold apart) neither on the other queries and requests nor on the threads; NaN in a query stays in its row, in
  // a key among the rows of its request. Allocates nothing once it has seen a call as large, but where
  // max_scratch_bytes is less than that takes. Throws InputError for offsets, counts and null pointers that do not fit;
  // `interests` is then as before. It must not overlap the keys or queries. Where an executor fails, it holds anything.
  void run(const Rows& keys, const Rows& queries, float* interests, const int64_t* counts = nullptr);

  // As Scorer has them; the unit and its folds are not in it.
  size_t scratch_bytes() const;
  void shrink();

 private:
  struct DIN_INFER_HIDDEN State;
  std::unique_ptr<State> state_;
};

// The largest difference between a probability that the model gives now and the one that PyTorch gave at export for the
// same candidate: of the edge-case requests in the file's certificate. NaN counts as 1. Throws ModelFileError where the
// file has no certificate.
DIN_INFER_API double certificate_error(const Model& model);

// A model that is replaced while it serves. Any number of threads may use a registry at once:
//
//   din_infer::ModelRegistry::Lease lease = registry.lease();
//   lease->score(batch, scores);
//
// A user is of one version, User(registry.model(), batch); a lease on a later one throws StaleUserError for it.
// At most two versions are in memory: the next one is loaded once all leases on the last but one are back.
class DIN_INFER_API ModelRegistry {
  struct DIN_INFER_HIDDEN Version;
  struct DIN_INFER_HIDDEN State;

 public:
  // A scorer of one version, for one thread. It keeps its version in memory as long as it lives: give it back after
  // each call, by its end.
  class DIN_INFER_API Lease {
   public:
    Lease(Lease&&) noexcept;
    Lease& operator=(Lease&&) noexcept;  // gives back what it had
    ~Lease();
    const Model& model() const;
    int64_t version() const;  // its number, as ModelRegistry::version gives it
    Scorer& operator*() const { return *scorer_; }
    Scorer* operator->() const { return scorer_.get(); }

   private:
    friend class ModelRegistry;
    Lease(std::shared_ptr<Version> version, std::unique_ptr<Scorer> scorer);
    std::shared_ptr<Version> version_;
    std::unique_ptr<Scorer> scorer_;
  };

  // Loads the first version from the file at `path`, in this thread; checks it as `replace` does. Throws
  // ModelFileError. `options` are those of the scorers of all versions.
  explicit ModelRegistry(const std::string& path, ScorerOptions options = {});
  ~ModelRegistry();  // waits for what is being loaded; no other call may be running, and leases may outlive it
  // No call may be running on either; what is assigned to ends as by its destructor.
  ModelRegistry(ModelRegistry&&) noexcept;
  ModelRegistry& operator=(ModelRegistry&&) noexcept;

  Lease lease();            // of the version that serves now; allocates where more are out than ever before
  Model model() const;      // that version's
  int64_t version() const;  // 1, and 1 more after each replacement

  // Loads a file in the background, checks that its certificate's probabilities come out within 1e-5, lets as many
  // scorers as are in use score it once, and then lets this version serve. Calls that are running end on the old one,
  // which is freed after them. A file that cannot be loaded or whose certificate is missing or not kept changes
  // nothing but error(). Of files that are given while one is being loaded, the last one is next. One with another
  // schema serves as well, and refuses batches of the old one.
  void replace(const std::string& path);

  // Waits until nothing is being loaded; the model before may be freed a moment later. Whether the last file serves.
  bool wait() const;

  // For callers that do not wait. Once nothing is being loaded, error() is of the last file that was given.
  bool loading() const;
  std::string error() const;  // why the last file that was loaded was refused; empty where it was not

 private:
  std::unique_ptr<State> state_;
};

}  // namespace din_infer
