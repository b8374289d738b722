// What is for one thread at a time, kept from one call to the next. Used with the GIL held: a child that is forked in
// another thread would inherit the lock.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace din_infer {

// Items have scratch memory that can be freed: scratch_bytes() and shrink().
template <class Key, class Item>
class Pool {
  // Scratch memory that an idle item keeps: more than a request takes, less than a large batch's.
  static constexpr size_t kKeptBytes = size_t{64} << 20;

 public:
  // An item while it is used, which goes back at the end, after an exception too.
  class Use {
   public:
    Use(Pool& pool, const Key& key, std::unique_ptr<Item> item) : pool_(pool), key_(key), item_(std::move(item)) {}
    Use(const Use&) = delete;
    ~Use() {
      if (item_->scratch_bytes() > kKeptBytes) item_->shrink();
      const std::lock_guard<std::mutex> lock(pool_.mutex_);
      pool_.idle_[key_].push_back(std::move(item_));
    }
    Item* operator->() const { return item_.get(); }

   private:
    Pool& pool_;
    const Key key_;
    std::unique_ptr<Item> item_;
  };

  // An idle one, or what `make` makes.
  template <class Make>
  Use Take(const Key& key, const Make& make) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      auto& idle = idle_[key];
      if (!idle.empty()) {
        std::unique_ptr<Item> item = std::move(idle.back());
        idle.pop_back();
        return Use(*this, key, std::move(item));
      }
    }
    return Use(*this, key, make());
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::vector<std::unique_ptr<Item>>> idle_;
};

}  // namespace din_infer
