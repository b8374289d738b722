// The C ABI as a caller's program may use it: batches of a golden model, spoilt or not, users and a registry, in an
// order that the input chooses. Every call gives a status that its documentation names and, where it fails, no handle;
// what is scored has the same bits twice, through a scorer, a registry, and a user.
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "din_infer/din_infer.h"
#include "fuzz/fuzzed_batch.hpp"
#include "fuzz/input.hpp"
#include "golden.hpp"

namespace din_infer {
namespace {

using fuzz::FuzzedBatch;
using fuzz::Input;

constexpr int64_t kMostScores = 1 << 16;

void Require(bool holds) {
  if (!holds) std::abort();
}

bool Expect(din_infer_status got, std::initializer_list<din_infer_status> refusals) {
  if (got == DIN_INFER_OK) return true;
  for (const din_infer_status refusal : refusals) {
    if (got == refusal && din_infer_last_error()[0] != '\0') return false;
  }
  std::abort();
}

// A handle that is freed with its function.
template <class T, void (*Free)(T*)>
struct Handle {
  Handle() = default;
  Handle(const Handle&) = delete;
  ~Handle() { Free(handle); }
  T** Fresh() {
    Free(std::exchange(handle, nullptr));
    return &handle;
  }
  operator T*() const { return handle; }
  T* handle = nullptr;
};
using CModel = Handle<din_infer_model, din_infer_model_free>;
using CBatch = Handle<din_infer_batch, din_infer_batch_free>;
using CScorer = Handle<din_infer_scorer, din_infer_scorer_free>;
using CUser = Handle<din_infer_user, din_infer_user_free>;
using CRegistry = Handle<din_infer_model_registry, din_infer_model_registry_free>;

struct Golden {
  explicit Golden(const std::string& name) : path(testing::GoldenPath(name, ".onnx")), file(ReadModelFile(path)) {
    Require(din_infer_model_load(path.c_str(), model.Fresh()) == DIN_INFER_OK);
    Require(din_infer_scorer_create(model, nullptr, scorer.Fresh()) == DIN_INFER_OK);
  }
  std::string path;
  ModelFile file;  // whose vocabularies a model does not keep
  CModel model;
  CScorer scorer;
};

bool OfList(const std::string& name) { return name.rfind("candidate.", 0) == 0 || name.rfind("context.", 0) == 0; }
bool OfUser(const std::string& name) { return name.rfind("user.", 0) == 0; }

// Rows that depend on nothing but the table's width, or a refusal.
int LookUp(void* fails, const din_infer_row_request* request) {
  for (int64_t i = 0; i < request->count * request->width; ++i) request->rows[i] = static_cast<float>(i % 7) / 8;
  return fails == nullptr ? 0 : 1;
}

class Session {
 public:
  Session(Golden& golden, Input& input)
      : golden_(golden), input_(input), ops_(input.Take<Ops>()), fuzzed_(golden.file, input) {
    for (int64_t spoilt = input_.Below(4); spoilt > 1; --spoilt) fuzzed_.Spoil();
    for (CBatch* batch : {&whole_, &of_user_, &behaviours_, &lists_}) {
      Require(din_infer_batch_create(batch->Fresh()) == DIN_INFER_OK);
    }
    Fill(whole_, [](const std::string&) { return true; });
    Fill(of_user_, [](const std::string& name) { return !OfList(name); });
    Fill(behaviours_, [](const std::string& name) { return !OfList(name) && !OfUser(name); });
    Fill(lists_, OfList);
  }

  void Run() {
    for (const uint8_t op : ops_) Do(op);
  }

 private:
  using Ops = std::array<uint8_t, 12>;

  template <class Keep>
  void Fill(din_infer_batch* to, const Keep& keep) {
    const Batch& from = fuzzed_.batch;
    SetRequests(to, from.requests);
    for (const auto& [key, column] : from.columns) {
      if (!keep(key)) continue;
      const char* name = key.c_str();
      din_infer_status set;
      if (column.embedding_values != nullptr) {
        set = din_infer_batch_set_embeddings(to, name, column.embedding_values, column.size, column.embedding_width);
      } else if (column.float_values != nullptr) {
        set = din_infer_batch_set_floats(to, name, column.float_values, column.size);
      } else if (column.string_offsets != nullptr) {
        set = din_infer_batch_set_strings(to, name, column.characters, column.string_offsets, column.size);
      } else {
        set = din_infer_batch_set_int64s(to, name, column.int64_values, column.size);
      }
      Require(set == DIN_INFER_OK);
      for (const Offsets& lists : column.lists) {
        Require(din_infer_batch_add_lists(to, name, lists.data, lists.size) == DIN_INFER_OK);
      }
    }
  }

  static void SetRequests(din_infer_batch* batch, int64_t requests) {
    Require(din_infer_batch_set_requests(batch, requests) == (requests < 0 ? DIN_INFER_INPUT_ERROR : DIN_INFER_OK));
  }

  // Views that cannot be, of any size: the column stays as it is.
  void RefuseViews(din_infer_batch* batch, const char* name) {
    const int64_t any = input_.Take<int64_t>(), size = any == 0 ? -1 : any;
    const int64_t value = 0;
    const float number = 0;
    Require(din_infer_batch_set_int64s(batch, name, size < 0 ? &value : nullptr, size) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_batch_set_floats(batch, name, size < 0 ? &number : nullptr, size) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_batch_set_strings(batch, name, "", size < 0 ? &value : nullptr, size) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_batch_set_embeddings(batch, name, nullptr, size, 4) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_batch_set_embeddings(batch, name, &number, 1, size < 0 ? size : -size) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_batch_add_lists(batch, name, nullptr, any) == DIN_INFER_INPUT_ERROR);
  }

  din_infer_batch* AnyBatch() {
    const std::array<din_infer_batch*, 4> batches{whole_, of_user_, behaviours_, lists_};
    return batches[static_cast<size_t>(input_.Below(4))];
  }

  // A column's name, mostly.
  std::string AnyName() {
    const auto& columns = fuzzed_.batch.columns;
    if (columns.empty() || input_.Below(8) == 0) return "candidate.nothing";
    auto found = columns.begin();
    std::advance(found, input_.Below(static_cast<int64_t>(columns.size())));
    return found->first;
  }

  void Do(uint8_t op) {
    switch (op % 12) {
      case 0:
        return ScoreTwice();
      case 1:
        return Explain();
      case 2:
        return Change();
      case 3:
        Expect(din_infer_user_create(golden_.model, of_user_, user_.Fresh()),
               {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR});
        of_registry_ = false;
        return;
      case 4:
        if (user_ == nullptr) return;
        Expect(din_infer_user_append(user_, behaviours_), {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR});
        return;
      case 5:
        return ScoreUser();
      case 6:
        if (registry_ != nullptr) return;
        Require(din_infer_model_registry_create(golden_.path.c_str(), nullptr, registry_.Fresh()) == DIN_INFER_OK);
        return;
      case 7:
        if (registry_ == nullptr) return;
        of_registry_ = Expect(din_infer_model_registry_user(registry_, of_user_, user_.Fresh()),
                              {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR});
        return;
      case 8:
        return Swap();
      case 9:
        return Ask();
      case 10:
        lists_of_one_ = !lists_of_one_;
        Require(din_infer_batch_set_shared_candidates(whole_, lists_of_one_ ? 1 : 0) == DIN_INFER_OK);
        Require(din_infer_batch_set_shared_candidates(lists_, lists_of_one_ ? 1 : 0) == DIN_INFER_OK);
        return;
      default:
        return NoPointers();
    }
  }

  // What may be set again between calls.
  void Change() {
    din_infer_batch* batch = AnyBatch();
    const std::string name = AnyName();
    switch (input_.Below(3)) {
      case 0:
        return SetRequests(batch, input_.Below(2) == 0 ? 1 : input_.Take<int64_t>());
      case 1:
        Expect(din_infer_batch_set_row_lookup(batch, name.c_str(), input_.Below(4) == 0 ? nullptr : LookUp,
                                              input_.Below(4) == 0 ? this : nullptr),
               {DIN_INFER_INPUT_ERROR});
        return;
      default:
        return RefuseViews(batch, name.c_str());
    }
  }

  // Scores by score(floats, size), whose size is sought where it is not known; empty where that is refused.
  template <class Call>
  std::vector<float> Scores(int64_t size, const Call& call, std::initializer_list<din_infer_status> refusals) {
    std::vector<float> scores(static_cast<size_t>(size)), again(scores.size());
    const bool scored = Expect(call(scores.data(), size), refusals);
    if (!scored) return {};
    Require(Expect(call(again.data(), size), refusals) && Same(scores, again));
    return scores;
  }
  static bool Same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
  }

  void ScoreTwice() {
    int64_t size = 0;
    const bool fits = Expect(din_infer_scorer_candidates(golden_.scorer, whole_, &size), {DIN_INFER_INPUT_ERROR});
    if (size > kMostScores) return;
    if (!fits) size = input_.Below(100);
    const auto score = [&](float* scores, int64_t count) {
      return din_infer_scorer_score(golden_.scorer, whole_, scores, count);
    };
    const auto scores = Scores(size, score, {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR});
    float none = 0;
    if (fits) Require(din_infer_scorer_score(golden_.scorer, whole_, &none, size + 1) == DIN_INFER_INPUT_ERROR);
    din_infer_plan_report report;
    Expect(din_infer_scorer_explain_plan(golden_.scorer, whole_, &report),
           {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR});
    if (registry_ == nullptr) return;
    const auto lend = [&](float* out, int64_t count) {
      return din_infer_model_registry_score(registry_, whole_, out, count);
    };
    Require(Same(Scores(size, lend, {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR}), scores));
  }

  void Explain() {
    const std::string history = golden_.file.schema.histories[0].name;
    std::vector<float> weights(static_cast<size_t>(input_.Take<uint16_t>() % 4096));
    Expect(
        din_infer_explain(golden_.model, whole_, history.c_str(), weights.data(), static_cast<int64_t>(weights.size())),
        {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR});
  }

  // Where the number of candidates is refused, one is tried out: what the candidates' first column has.
  void ScoreUser() {
    const auto& columns = fuzzed_.batch.columns;
    const auto candidate = columns.lower_bound("candidate.");
    int64_t size = 0;
    if (candidate != columns.end() && !candidate->second.lists.empty() && candidate->second.lists[0].size > 0) {
      size = std::min(std::max<int64_t>(candidate->second.lists[0].data[candidate->second.lists[0].size - 1], 0),
                      kMostScores);
    }
    int64_t counted = -1;
    const bool fits = Expect(din_infer_scorer_candidates_user(golden_.scorer, user_, lists_, &counted),
                             {DIN_INFER_INPUT_ERROR, DIN_INFER_STALE_USER});
    Require(fits ? counted >= 0 : counted == -1);
    if (fits) size = counted;
    if (size > kMostScores) return;
    const auto score = [&](float* scores, int64_t count) {
      return din_infer_scorer_score_user(golden_.scorer, user_, lists_, scores, count);
    };
    const auto scores = Scores(size, score, {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR, DIN_INFER_STALE_USER});
    if (!fits) Require(scores.empty());
    CUser copy;
    if (user_ != nullptr) {
      Require(din_infer_user_copy(user_, copy.Fresh()) == DIN_INFER_OK);
      const auto of_copy = [&](float* out, int64_t count) {
        return din_infer_scorer_score_user(golden_.scorer, copy, lists_, out, count);
      };
      Require(
          Same(Scores(size, of_copy, {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR, DIN_INFER_STALE_USER}), scores));
    }
    if (registry_ == nullptr) return;
    const auto lend = [&](float* scores, int64_t count) {
      return din_infer_model_registry_score_user(registry_, user_, lists_, scores, count);
    };
    std::vector<float> of_registry(static_cast<size_t>(size));
    const din_infer_status lent = lend(of_registry.data(), size);
    Expect(lent, {DIN_INFER_INPUT_ERROR, DIN_INFER_LOOKUP_ERROR, DIN_INFER_STALE_USER});
    if (user_ != nullptr && !of_registry_) Require(lent == DIN_INFER_STALE_USER || lent == DIN_INFER_INPUT_ERROR);
  }

  void Swap() {
    if (registry_ == nullptr) return;
    const bool good = input_.Below(2) == 0;
    int64_t before = 0, after = 0;
    din_infer_model_registry_version(registry_, &before);
    Require(din_infer_model_registry_replace(registry_, good ? golden_.path.c_str() : "/nonexistent.onnx") ==
            DIN_INFER_OK);
    const din_infer_status loaded = good ? DIN_INFER_OK : DIN_INFER_MODEL_FILE_ERROR;
    Require(din_infer_model_registry_wait(registry_) == loaded);
    int loading = -1;
    Require(din_infer_model_registry_loading(registry_, &loading) == DIN_INFER_OK && loading == 0);
    Require(din_infer_model_registry_error(registry_) == loaded);
    din_infer_model_registry_version(registry_, &after);
    Require(after == before + (good ? 1 : 0));
    of_registry_ &= !good;
  }

  void Ask() {
    int64_t count = 0;
    size_t bytes = 0;
    const char* text = nullptr;
    Expect(din_infer_model_unknown_ids(golden_.model, AnyName().c_str(), &count), {DIN_INFER_INPUT_ERROR});
    Require(din_infer_model_memory_bytes(golden_.model, &bytes) == DIN_INFER_OK && bytes > 0);
    double error = 1;
    Require(din_infer_model_certificate_error(golden_.model, &error) == DIN_INFER_OK && error < 1e-5);
    Require(din_infer_model_metadata(golden_.model, AnyName().c_str(), &text) == DIN_INFER_OK);
    if (user_ != nullptr) Require(din_infer_user_memory_bytes(user_, &bytes) == DIN_INFER_OK && bytes > 0);
    if (registry_ == nullptr) return;
    CModel model;
    CScorer scorer;
    Require(din_infer_model_registry_model(registry_, model.Fresh()) == DIN_INFER_OK);
    din_infer_scorer_options options{};
    options.size = sizeof(options), options.flags = DIN_INFER_AUTO_PLAN;
    Require(din_infer_scorer_create(model, &options, scorer.Fresh()) == DIN_INFER_OK);
  }

  void NoPointers() {
    Require(din_infer_scorer_score(nullptr, whole_, nullptr, 0) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_scorer_score(golden_.scorer, nullptr, nullptr, 0) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_user_create(golden_.model, nullptr, user_.Fresh()) == DIN_INFER_INPUT_ERROR && user_ == nullptr);
    Require(din_infer_batch_set_int64s(whole_, nullptr, nullptr, 0) == DIN_INFER_INPUT_ERROR);
    Require(din_infer_model_registry_user(nullptr, of_user_, user_.Fresh()) == DIN_INFER_INPUT_ERROR);
  }

  Golden& golden_;
  Input& input_;
  const Ops ops_;
  FuzzedBatch fuzzed_;
  CBatch whole_, of_user_, behaviours_, lists_;
  CUser user_;
  CRegistry registry_;
  bool of_registry_ = false;  // the user is of the registry's current version
  bool lists_of_one_ = false;
};

}  // namespace
}  // namespace din_infer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using din_infer::Golden, din_infer::testing::kGoldenModels;
  static std::array<Golden, 3> models{Golden(kGoldenModels[0]), Golden(kGoldenModels[1]), Golden(kGoldenModels[2])};
  din_infer::fuzz::Input input(data, size);
  Golden& golden = models[input.Take<uint8_t>() % models.size()];
  din_infer::Session(golden, input).Run();
  return 0;
}
