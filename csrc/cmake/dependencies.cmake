# Each library from the system where it is installed, otherwise fetched at a pinned version.
include(FetchContent)
set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)  # what is set here decides the options of what is fetched

find_package(Threads REQUIRED)

find_package(nlohmann_json 3.11 CONFIG QUIET)
if(NOT nlohmann_json_FOUND)  # header-only; its CMake files are older than what CMake 4 reads
  FetchContent_Declare(json URL https://github.com/nlohmann/json/archive/refs/tags/v3.11.3.tar.gz SOURCE_SUBDIR none)
  FetchContent_MakeAvailable(json)
  add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
  target_include_directories(nlohmann_json::nlohmann_json SYSTEM INTERFACE ${json_SOURCE_DIR}/single_include)
endif()

find_package(hwy 1.0.3 CONFIG QUIET)
if(NOT hwy_FOUND)
  set(HWY_ENABLE_TESTS OFF)
  set(HWY_ENABLE_EXAMPLES OFF)
  set(HWY_ENABLE_CONTRIB OFF)
  set(HWY_ENABLE_INSTALL OFF)
  set(HWY_FORCE_STATIC_LIBS ON)
  FetchContent_Declare(highway URL https://github.com/google/highway/archive/refs/tags/1.2.0.tar.gz)
  FetchContent_MakeAvailable(highway)
  add_library(hwy::hwy ALIAS hwy)
endif()

# Header-only; Debian's package has no CMake configuration.
find_path(PROTOZERO_INCLUDE_DIR protozero/pbf_reader.hpp)
if(NOT PROTOZERO_INCLUDE_DIR)
  FetchContent_Declare(protozero URL https://github.com/mapbox/protozero/archive/refs/tags/v1.8.1.tar.gz SOURCE_SUBDIR none)
  FetchContent_MakeAvailable(protozero)
  set(PROTOZERO_INCLUDE_DIR ${protozero_SOURCE_DIR}/include)
endif()
add_library(protozero::protozero INTERFACE IMPORTED)
target_include_directories(protozero::protozero SYSTEM INTERFACE ${PROTOZERO_INCLUDE_DIR})

if(DIN_INFER_TESTS)
  find_package(GTest 1.11 CONFIG QUIET)
  if(NOT GTest_FOUND)
    set(INSTALL_GTEST OFF)
    FetchContent_Declare(googletest URL https://github.com/google/googletest/archive/refs/tags/v1.15.2.tar.gz)
    FetchContent_MakeAvailable(googletest)
  endif()
endif()
