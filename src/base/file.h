// Reading files: whole (bounded) or memory-mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace bifocal {

// Errors: not_found, invalid_argument (not a regular file, larger than max_bytes), data_loss (short read).
Expected<std::string> read_file(const std::string& path, uint64_t max_bytes);

bool file_exists(const std::string& path);

// Writes to a temporary file beside path, syncs it and renames it over path: readers see the old or the new
// file.
Status write_file_atomically(const std::string& path, std::string_view content);

// A read-only mapping. A file that shrinks while it is mapped raises SIGBUS on access: copy what must outlive
// it.
class MappedFile {
 public:
  static Expected<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace bifocal
