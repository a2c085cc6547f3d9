// Libraries that are looked for at run time, so that one binary runs without them. They stay loaded.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "base/status.h"

namespace bifocal::kernels::cuda {

class SharedLibrary {
 public:
  // unavailable, with the loader's reason, when `file` can't be loaded.
  static Expected<SharedLibrary> open(const std::string& file);

  // function: a pointer to a function of this type, null when the library has none of this name.
  template <class Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<Function>>(find_symbol(name));
  }
  // unavailable, naming the first, when a function was not found.
  Status check_complete() const;

 private:
  SharedLibrary(std::string file, void* handle) : file_(std::move(file)), handle_(handle) {}
  void* find_symbol(const char* name);
  std::string file_;
  void* handle_;
  std::string missing_;
};

}  // namespace bifocal::kernels::cuda
