#include "kernels/cuda/shared_library.h"

#include <dlfcn.h>

#include <utility>

namespace bifocal::kernels::cuda {

Expected<SharedLibrary> SharedLibrary::open(const std::string& file) {
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return SharedLibrary(file, handle);
  const char* why = dlerror();
  return unavailable(why != nullptr ? std::string(why) : file + " can't be loaded");
}

void* SharedLibrary::find_symbol(const char* name) {
  void* symbol = dlsym(handle_, name);
  if (symbol == nullptr && missing_.empty()) missing_ = name;
  return symbol;
}

Status SharedLibrary::check_complete() const {
  if (missing_.empty()) return {};
  return unavailable(file_ + " has no " + missing_ + "; CUDA 13's is needed");
}

}  // namespace bifocal::kernels::cuda
