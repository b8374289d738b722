// Requests of several callers as one batch of the library's.
#pragma once

#include <din_infer/din_infer.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "scoring.pb.h"

namespace din_infer::examples {

class MergedRequests {
 public:
  void Clear();  // keeps the memory

  // False, and nothing added, where the request's columns are not those of the requests that are there. Throws
  // InputError where it is not one request: in a batch, the next one's values would make up for what it lacks.
  bool Add(const Request& request);

  // Points to memory of this object's; valid until the next change.
  const Batch& batch();

 private:
  struct Values {
    Values(const std::string& name, const Column& column);

    bool Fits(const Column& column) const { return column.values_case() == type && column.has_counts() == many; }
    void Check(const std::string& name, const Column& column) const;
    void Add(const Column& column);
    void View(din_infer::Column& view) const;
    void Clear();

    const Column::ValuesCase type;
    const bool many;  // several values of a feature
    const bool list;  // of the candidates or of a history
    std::vector<int64_t> int64s;
    std::vector<float> floats;
    std::string characters;
    std::vector<int64_t> characters_ends, places_ends, values_ends;  // of strings, of requests, of counts
  };

  bool Fits(const Request& request) const;

  std::map<std::string, Values> columns_;
  Batch batch_;
};

}  // namespace din_infer::examples
