# Warnings are errors for our own code; libraries' headers are system includes.
add_library(bifocal_options INTERFACE)
target_compile_options(bifocal_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow
                                                 $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Woverloaded-virtual> -Werror)
# GCC 12 sees overlapping copies in std::string concatenation where there are none (GCC bug 105651).
target_compile_options(bifocal_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# From GCC 13 on, moves of std::optional and std::variant seem to read what was never written (GCC bug 80635); GCC 12
# still looks for real cases.
target_compile_options(
  bifocal_options
  INTERFACE $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_GREATER_EQUAL:$<CXX_COMPILER_VERSION>,13>>:-Wno-maybe-uninitialized>)
# Contracted a*b+c would round differently from one compiler flag to the next; kernels ask for FMA by name.
target_compile_options(bifocal_options INTERFACE -ffp-contract=off)
target_include_directories(bifocal_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(bifocal_options INTERFACE BIFOCAL_VERSION="${PROJECT_VERSION}")
if(BIFOCAL_SANITIZE)
  # GCC's own documentation: what sanitizers insert makes it see uninitialised values where there are none.
  target_compile_options(bifocal_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  # Boost.Asio's fences, which ThreadSanitizer does not see: it could only report too much.
  if(BIFOCAL_SANITIZE MATCHES thread)
    target_compile_options(bifocal_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  endif()
  target_compile_options(bifocal_options INTERFACE -fsanitize=${BIFOCAL_SANITIZE} -fno-sanitize-recover=all
                                                   -fno-omit-frame-pointer)
  target_link_options(bifocal_options INTERFACE -fsanitize=${BIFOCAL_SANITIZE})
endif()
