// What is for one thread at a time, kept from one call to the next. Take and Return with the GIL held: a child that is
// forked in another thread would inherit the lock.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace din_infer {

template <class Key, class Item>
class Pool {
 public:
  // An idle one, or what `make` makes.
  template <class Make>
  std::unique_ptr<Item> Take(const Key& key, const Make& make) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      auto& idle = idle_[key];
      if (!idle.empty()) {
        std::unique_ptr<Item> item = std::move(idle.back());
        idle.pop_back();
        return item;
      }
    }
    return make();
  }

  void Return(const Key& key, std::unique_ptr<Item> item) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_[key].push_back(std::move(item));
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::vector<std::unique_ptr<Item>>> idle_;
};

}  // namespace din_infer
