# CUDA is optional: nothing below happens unless BIFOCAL_CUDA is on. Kernels are built ahead of time for Hopper.
# By itself it is on where the kernels can be built and run; elsewhere they would only cost build time.
set(cuda_default OFF)
if(EXISTS /usr/local/cuda/bin/nvcc AND EXISTS /dev/nvidia0)
  set(cuda_default ON)
endif()
option(BIFOCAL_CUDA "Build the CUDA kernels (nvcc 13, compute capability 9.0)" ${cuda_default})
if(NOT BIFOCAL_CUDA)
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
endif()
set(CMAKE_CUDA_ARCHITECTURES OFF)  # said by name below: the plain sm_90 has no wgmma
enable_language(CUDA)
# CMake 3.25 doesn't know how this compiler is asked for C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
find_package(CUDAToolkit 13.0 REQUIRED)
find_path(CUPTI_INCLUDE_DIR cupti.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_TARGET_DIR}/extras/CUPTI/include
          REQUIRED)
find_package(Python3 REQUIRED COMPONENTS Interpreter)

# Fails a build whose kernels spill registers or whose wgmma instructions ptxas has serialised.
set(CMAKE_CUDA_COMPILER_LAUNCHER ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/cuda_gate.py)

# bifocal_cuda_options(target): flags of every target with .cu files.
function(bifocal_cuda_options target)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-gencode=arch=compute_90a,code=sm_90a -Xptxas=-v -lineinfo -Werror=all-warnings
                               --expt-relaxed-constexpr
                               -Xcompiler=-Wall,-Wextra,-Wshadow,-Werror>
    $<$<COMPILE_LANGUAGE:CXX>:$<TARGET_PROPERTY:bifocal_options,INTERFACE_COMPILE_OPTIONS>>)
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
endfunction()

# bifocal_cuda_room(NAME kernels_cuda SRCS a.cu b.cpp DEPS bifocal_base)
function(bifocal_cuda_room)
  cmake_parse_arguments(ROOM "" "NAME" "SRCS;DEPS" ${ARGN})
  set(target bifocal_${ROOM_NAME})
  add_library(${target} STATIC ${ROOM_SRCS})
  bifocal_cuda_options(${target})
  target_link_libraries(${target} PUBLIC ${ROOM_DEPS} CUDA::cudart_static)
endfunction()
