# bifocal_room(NAME base SRCS a.cpp b.cpp DEPS base PRIVATE_DEPS fmt::fmt)
#   A room is one static library, bifocal_<name>. DEPS are other rooms or libraries that its headers show;
#   PRIVATE_DEPS are used in its sources only.
function(bifocal_room)
  cmake_parse_arguments(ROOM "" "NAME" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  set(target bifocal_${ROOM_NAME})
  add_library(${target} STATIC ${ROOM_SRCS})
  target_link_libraries(${target} PUBLIC ${ROOM_DEPS} PRIVATE bifocal_options ${ROOM_PRIVATE_DEPS})
endfunction()

# bifocal_test(NAME base_tests SRCS status_test.cpp DEPS bifocal_base [LABELS fast])
#   One GoogleTest binary per room; CTest sees every case by name. Label `fast` is the default suite.
function(bifocal_test)
  cmake_parse_arguments(TEST "" "NAME" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT TEST_LABELS)
    set(TEST_LABELS fast)
  endif()
  add_executable(${TEST_NAME} ${TEST_SRCS})
  target_include_directories(${TEST_NAME} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${TEST_NAME} PRIVATE BIFOCAL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_link_libraries(${TEST_NAME} PRIVATE bifocal_options ${TEST_DEPS} GTest::gtest GTest::gtest_main)
  gtest_discover_tests(${TEST_NAME} DISCOVERY_MODE PRE_TEST NO_PRETTY_VALUES DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT 600)
endfunction()
