#include "onnx/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "base/errors.hpp"

namespace din_infer::onnx {
namespace {

size_t PageSize() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

std::string SystemError() { return std::generic_category().message(errno); }

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

Mapping::Mapping(const std::filesystem::path& path, uint64_t min_size) {
  const std::string where = path.string();
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // a pipe must not make us wait
  struct stat status{};
  if (file.fd < 0 || fstat(file.fd, &status) != 0)
    throw ModelFileError(where + ": expected a file that can be read, got: " + SystemError());
  if (!S_ISREG(status.st_mode)) {
    throw ModelFileError(where + ": expected a regular file, got a " + (S_ISDIR(status.st_mode) ? "folder" : "device"));
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ < min_size) {
    throw ModelFileError(where + ": expected at least " + std::to_string(min_size) + " bytes, got " +
                         std::to_string(size_));
  }
  if (size_ == 0) return;
  void* const data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) throw ModelFileError(where + ": expected a file that can be mapped, got: " + SystemError());
  data_ = static_cast<const char*>(data);
}

void Mapping::ReadAtRandom() const {
  if (data_) madvise(const_cast<char*>(data_), size_, MADV_RANDOM);
}

void Mapping::Populate([[maybe_unused]] std::string_view bytes) const {
#ifdef MADV_POPULATE_READ
  const auto at = static_cast<size_t>(bytes.data() - data_);
  const size_t begin = at / PageSize() * PageSize();
  madvise(const_cast<char*>(data_) + begin, at + bytes.size() - begin, MADV_POPULATE_READ);
#endif
}

Mapping::~Mapping() {
  if (data_) munmap(const_cast<char*>(data_), size_);
}

void Forget(std::string_view bytes) {
  const size_t page = PageSize(), at = reinterpret_cast<uintptr_t>(bytes.data());
  const size_t skip = (page - at % page) % page;  // to the first whole page
  if (bytes.size() < skip + page) return;
  madvise(const_cast<char*>(bytes.data()) + skip, (bytes.size() - skip) / page * page, MADV_DONTNEED);
}

}  // namespace din_infer::onnx
