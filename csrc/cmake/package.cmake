# The library that serving systems link, static or shared as BUILD_SHARED_LIBS says, and the CMake package around it.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

add_library(din_infer $<TARGET_OBJECTS:din_infer_core>)
add_library(din_infer::din_infer ALIAS din_infer)
target_include_directories(din_infer PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
target_compile_features(din_infer INTERFACE cxx_std_17)
if(BUILD_SHARED_LIBS)  # as files: of targets CMake would have those that find_package finds, and fetched ones it refuses
  target_link_libraries(din_infer PRIVATE $<TARGET_LINKER_FILE:hwy::hwy> Threads::Threads)
  add_dependencies(din_infer hwy::hwy)
else()
  target_link_libraries(din_infer PRIVATE hwy::hwy Threads::Threads)
endif()
target_link_options(din_infer PRIVATE $<TARGET_PROPERTY:din_infer_core,INTERFACE_LINK_OPTIONS>)
set_target_properties(din_infer PROPERTIES LINKER_LANGUAGE CXX)
if(BUILD_SHARED_LIBS AND NOT APPLE)
  set(exports ${CMAKE_CURRENT_LIST_DIR}/exports.map)
  target_link_options(din_infer PRIVATE LINKER:--version-script=${exports})
  set_target_properties(din_infer PROPERTIES LINK_DEPENDS ${exports})
endif()

if(DIN_INFER_PYTHON)  # inside the Python package, beside the libraries that _core needs; a wheel holds no links
  set(library_dir din_infer)
  set(include_dir din_infer/include)
  set(cmake_dir din_infer/share/cmake/din_infer)
  set_target_properties(din_infer PROPERTIES INSTALL_RPATH "$ORIGIN")
else()
  set(library_dir ${CMAKE_INSTALL_LIBDIR})
  set(include_dir ${CMAKE_INSTALL_INCLUDEDIR})
  set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/din_infer)
  set_target_properties(din_infer PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
endif()

# Another project finds hwy with find_package, so a static library that links a fetched one cannot be installed.
get_target_property(hwy_imported hwy::hwy IMPORTED)
if(NOT BUILD_SHARED_LIBS AND NOT hwy_imported)
  message(STATUS "din_infer: no rules to install the static library, as Highway is not installed")
  return()
endif()

install(TARGETS din_infer EXPORT din_infer-targets
  ARCHIVE DESTINATION ${library_dir} LIBRARY DESTINATION ${library_dir} INCLUDES DESTINATION ${include_dir})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/din_infer DESTINATION ${include_dir})
install(EXPORT din_infer-targets NAMESPACE din_infer:: DESTINATION ${cmake_dir})
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/din_infer-config.cmake.in ${PROJECT_BINARY_DIR}/din_infer-config.cmake
  INSTALL_DESTINATION ${cmake_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/din_infer-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/din_infer-config.cmake ${PROJECT_BINARY_DIR}/din_infer-config-version.cmake
  DESTINATION ${cmake_dir})
