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
// Errors are exceptions derived from din_infer::Error that say what was expected and what came.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace din_infer {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Requests that do not fit the schema: wrong type or shape, missing or unknown columns, bad offsets.
struct InputError : Error {
  using Error::Error;
};

// A model file that is damaged, hostile, of another format version, or not a DIN that is understood.
struct ModelFileError : Error {
  using Error::Error;
};

// Offsets of one level of lists: list i holds the elements [data[i], data[i + 1]) of the level inside.
struct Offsets {
  const int64_t* data = nullptr;
  int64_t size = 0;  // number of lists + 1; 0 where there is no such level
};

// A view of one column of a batch; the caller keeps the memory. Exactly one of the three value pointers is set, for any
// `size`.
struct Column {
  const int64_t* int64_values = nullptr;
  const float* float_values = nullptr;
  const char* characters = nullptr;         // strings: value i is [string_offsets[i], string_offsets[i + 1])
  const int64_t* string_offsets = nullptr;  // [size + 1]
  int64_t size = 0;                         // values
  std::vector<Offsets> lists;  // outermost first: a history's [requests + 1], then a multi-valued feature's

  static Column int64s(const int64_t* values, int64_t size);
  static Column floats(const float* values, int64_t size);
  static Column strings(const char* characters, const int64_t* offsets, int64_t size);
  Column&& list(const int64_t* offsets, int64_t size) &&;  // adds a level of lists inside those there are
};

// Requests by column name, as the model's schema names them: `user.age`, `candidate.item_id`, `history.item_id`.
struct Batch {
  int64_t requests = 0;
  std::map<std::string, Column, std::less<>> columns;
  bool shared_candidates = false;  // candidate columns hold one list, a catalogue, which every request scores
};

// A model, immutable and cheap to copy: copies share it.
class Model {
 public:
  // Throws ModelFileError. Of bytes, external tables are looked for in `folder`.
  static Model load(const std::string& path);
  static Model load_bytes(std::string bytes, const std::string& folder);

  const std::map<std::string, std::string>& metadata() const;  // of the file: schema, semantics, training facts
  size_t memory_bytes() const;                                 // tables, vocabularies, packed weights, folds kept now

  // Ids that a column's vocabulary or range does not have, and that were scored with the table's default row: by
  // column, in all scoring with this model so far.
  std::map<std::string, int64_t> unknown_ids() const;

  struct Parts;
  const Parts& parts() const { return *parts_; }

 private:
  explicit Model(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;
};

// How a batch is scored; scores have the same bits under each.
enum class Plan {
  kRequest,  // request by request
  kAuto,     // candidate by candidate where requests have so much in common that this takes clearly less work
};

struct ScorerOptions {
  int threads = 1;
  Plan plan = Plan::kRequest;
  // Folds on the history's side where that is faster: scores then stay within 1e-6 of, but are not the bits of, the
  // default.
  bool auto_fold = false;
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
class Scorer {
 public:
  explicit Scorer(Model model, ScorerOptions options = {});
  ~Scorer();
  Scorer(Scorer&&) noexcept;

  // Candidates in the batch, which is the number of scores. Throws InputError where the batch does not fit the schema.
  int64_t candidates(const Batch& batch) const;

  // Writes one probability per candidate, in the order given. Throws InputError; `scores` is then unspecified.
  void score(const Batch& batch, float* scores);

  // What Plan::kAuto weighs up before it scores the batch; scores nothing. Throws InputError.
  PlanReport explain_plan(const Batch& batch);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The weights with which a history's behaviours are added up for each candidate, after scale and softmax: request after
// request, candidate after candidate, one per behaviour in the order given. Behaviours that max_length leaves out have
// 0; under a base model all others have 1 (sum) or 1 / T (mean). Throws InputError, also for an unknown history.
std::vector<float> explain(const Model& model, const Batch& batch, const std::string& history);

}  // namespace din_infer
