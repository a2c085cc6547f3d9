#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace bifocal {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Status errno_status(const std::string& path, const char* what) {
  const int error = errno;
  const std::string message = fmt::format("{}: cannot {}: {}", path, what, std::strerror(error));
  return error == ENOENT || error == ENOTDIR ? not_found(message) : invalid_argument(message);
}

// Opens a regular file and tells its size.
Status open_regular(const std::string& path, int fd, uint64_t& size) {
  if (fd < 0) return errno_status(path, "open");
  struct stat info {};
  if (::fstat(fd, &info) != 0) return errno_status(path, "stat");
  if (!S_ISREG(info.st_mode)) return invalid_argument(fmt::format("{}: not a regular file", path));
  size = static_cast<uint64_t>(info.st_size);
  return {};
}

}  // namespace

Expected<std::string> read_file(const std::string& path, uint64_t max_bytes) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  uint64_t size = 0;
  BIFOCAL_RETURN_IF_ERROR(open_regular(path, fd.get(), size));
  if (size > max_bytes) {
    return invalid_argument(fmt::format("{}: {} bytes, expected at most {}", path, size, max_bytes));
  }
  std::string content(size, '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = ::read(fd.get(), content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(path, "read");
    if (n == 0) return data_loss(fmt::format("{}: ended after {} of {} bytes", path, done, size));
    done += static_cast<size_t>(n);
  }
  return content;
}

bool file_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

Status write_file_atomically(const std::string& path, std::string_view content) {
  const std::string temporary = fmt::format("{}.tmp.{}", path, ::getpid());
  {
    const Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fd.get() < 0) return errno_status(temporary, "create");
    size_t done = 0;
    while (done < content.size()) {
      const ssize_t n = ::write(fd.get(), content.data() + done, content.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        const Status status = errno_status(temporary, "write");
        ::unlink(temporary.c_str());
        return status;
      }
      done += static_cast<size_t>(n);
    }
    if (::fsync(fd.get()) != 0) {
      const Status status = errno_status(temporary, "sync");
      ::unlink(temporary.c_str());
      return status;
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const Status status = errno_status(path, "rename to");
    ::unlink(temporary.c_str());
    return status;
  }
  return {};
}

Expected<MappedFile> MappedFile::open(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  uint64_t size = 0;
  BIFOCAL_RETURN_IF_ERROR(open_regular(path, fd.get(), size));
  MappedFile file;
  if (size > 0) {
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) return errno_status(path, "map");
    file.data_ = static_cast<const std::byte*>(data);
    file.size_ = size;
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace bifocal
