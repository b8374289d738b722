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
  if (!S_ISREG(status.st_mode)) throw ModelFileError(where + ": expected a regular file");
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

void Mapping::Forget(const char* data, uint64_t bytes) const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = (static_cast<size_t>(data - data_) + page - 1) / page * page;  // pages with nothing else in them
  const size_t end = (static_cast<size_t>(data - data_) + bytes) / page * page;
  if (begin < end) madvise(const_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);
}

Mapping::~Mapping() {
  if (data_) munmap(const_cast<char*>(data_), size_);
}

}  // namespace din_infer::onnx
