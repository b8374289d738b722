# make demo | test | sanitize | fuzz | docs | bench | lint | clean. Each sets up what it needs first, and skips what is done.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# `python -c` and `-m` do not see the current folder, so nothing here imports the checkout in place of the installed package.
export PYTHONSAFEPATH := 1

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := .venv/stamps
SOURCES := $(shell find din_infer kernels export csrc -type f -not -path '*/__pycache__/*')

.PHONY: help
help:
	@echo "make demo    train, export, validate, score and time a DIN on MovieLens 100k; results in demo/"
	@echo "make test    all tests, C++ and Python"
	@echo "make sanitize the C++ tests under ASan with UBSan, and under TSan"
	@echo "make fuzz    libFuzzer, FUZZ_SECONDS=60 on each target"
	@echo "make docs    docs/semantics.md, the table of what the tests compare"
	@echo "make bench   kernel and request benchmarks; results in build/bench/"
	@echo "make lint    ruff, mypy, clang-format (make format applies them, make tidy runs clang-tidy)"
	@echo "make build   set-up alone: system packages, .venv, din_infer installed in it"
	@echo "make clean   removes build/ and demo/ (make distclean: .venv too)"

# ---- set-up ----
.PHONY: build
build: $(STAMPS)/installed

$(STAMPS)/venv: scripts/system-packages
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it with make PYTHON=..."; exit 1; }
	@mkdir -p $(@D)
	scripts/system-packages $(PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@touch $@

# The build tools stay in .venv (no isolated build), so CMake finds the same paths again and builds only what changed.
$(STAMPS)/build-tools: $(STAMPS)/venv constraints.txt
	$(PIP) install --constraint constraints.txt scikit-build-core pybind11 cmake ninja
	@touch $@

$(STAMPS)/installed: $(STAMPS)/build-tools pyproject.toml $(SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --constraint constraints.txt --no-build-isolation '.[dev]'
	@touch $@

# ---- tests ----
.PHONY: test test-cpp
test: test-cpp build $(STAMPS)/examples-packages $(STAMPS)/cluster-packages
	$(BIN)/pytest

# gRPC, for the example server; where it cannot be installed its test says so.
$(STAMPS)/examples-packages: $(STAMPS)/venv
	scripts/system-packages $(PYTHON) libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc
	@touch $@

# Ray, and Spark with its Java, for bulk scoring on them; where they cannot be installed their tests say so.
$(STAMPS)/cluster-packages: $(STAMPS)/installed
	command -v java >/dev/null || scripts/system-packages $(PYTHON) default-jre-headless
	$(PIP) install --constraint constraints.txt 'ray[data]' pyspark || echo "Ray and Spark could not be installed"
	@touch $@

# For kernels of 64-bit Arm, which are compiled and not run; where it cannot be installed there is no such test.
$(STAMPS)/arm-compiler: $(STAMPS)/venv
	command -v aarch64-linux-gnu-g++ >/dev/null || scripts/system-packages $(PYTHON) g++-aarch64-linux-gnu
	@touch $@

test-cpp: $(STAMPS)/build-tools $(STAMPS)/arm-compiler
	$(BIN)/cmake -S csrc -B build/cpp -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DCMAKE_BUILD_TYPE=Release -DDIN_INFER_TESTS=ON --log-level=WARNING
	$(BIN)/cmake --build build/cpp
	$(BIN)/ctest --test-dir build/cpp --output-on-failure --parallel 2

# Sanitizers map their shadows at fixed addresses, which a kernel with much address randomisation takes from them now and
# then. Some containers do not let it be turned off.
FIXED_ADDRESSES := $(shell setarch $$(uname -m) -R true 2>/dev/null && echo setarch $$(uname -m) -R)

# The C++ tests under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer (best target alone).
.PHONY: sanitize sanitize-asan sanitize-tsan
sanitize: sanitize-asan sanitize-tsan
sanitize-asan: SANITIZERS := address,undefined
sanitize-tsan: SANITIZERS := thread
sanitize-asan sanitize-tsan: sanitize-%: $(STAMPS)/build-tools
	$(BIN)/cmake -S csrc -B build/$* -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DDIN_INFER_TESTS=ON -DDIN_INFER_SANITIZE=$(SANITIZERS) --log-level=WARNING
	$(BIN)/cmake --build build/$*
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $(FIXED_ADDRESSES) \
	  $(BIN)/ctest --test-dir build/$* --output-on-failure --parallel 2

# libFuzzer on the model reader, on request decoding, and in C on the activation unit and on batches, users and
# registries. The golden files are seeds for all: any bytes make a batch. What it finds goes to build/fuzz/corpus/, where
# the next run starts. An input takes milliseconds; a minute is a hang.
FUZZ_SECONDS ?= 60
.PHONY: fuzz fuzz-build fuzz-activation_unit fuzz-capi fuzz-model_file fuzz-requests
fuzz: fuzz-activation_unit fuzz-capi fuzz-model_file fuzz-requests
fuzz-build: $(STAMPS)/build-tools
	scripts/system-packages $(PYTHON) clang
	@command -v clang++ >/dev/null || { echo "make fuzz needs clang++, which could not be installed"; exit 1; }
	scripts/system-packages $(PYTHON) libclang-rt-$$(clang -dumpversion | cut -d. -f1)-dev
	CXX=clang++ $(BIN)/cmake -S csrc -B build/fuzz -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DDIN_INFER_FUZZ=ON --log-level=WARNING
	$(BIN)/cmake --build build/fuzz
fuzz-model_file: MAX_LENGTH := 65536
fuzz-activation_unit fuzz-capi fuzz-requests: MAX_LENGTH := 4096
fuzz-activation_unit fuzz-capi fuzz-model_file fuzz-requests: fuzz-%: fuzz-build
	mkdir -p build/fuzz/corpus/$*
	$(FIXED_ADDRESSES) build/fuzz/fuzz/fuzz_$* -max_total_time=$(FUZZ_SECONDS) -max_len=$(MAX_LENGTH) -timeout=60 -verbosity=0 -print_funcs=0 \
	  -print_final_stats=1 -artifact_prefix=build/fuzz/$*- build/fuzz/corpus/$* tests/golden

# docs/semantics.md, from what the tests find
.PHONY: docs
docs: build
	$(BIN)/pytest tests/semantics --write-docs

# ---- the demo: data, two models, one file, its checks, its scores, its speed ----
.PHONY: demo
demo: demo/scores.parquet demo/validation.json demo/report/results.json
	@$(BIN)/python benchmarks/summary.py demo

demo/data/schema.yaml: $(STAMPS)/installed
	$(BIN)/din-infer data ml-100k --out demo/data

# PyTorch's threads spin while they wait, which costs ten times the work where the cores are busy.
PASSIVE := OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
demo/base/metrics.json: demo/data/schema.yaml
	$(PASSIVE) $(BIN)/din-infer train demo/data --out demo/base --model base

demo/din/metrics.json: demo/data/schema.yaml
	$(PASSIVE) $(BIN)/din-infer train demo/data --out demo/din --model din --interaction outer --activation dice

demo/model.onnx: demo/din/metrics.json
	$(BIN)/din-infer export demo/din --out $@

demo/validation.json: demo/model.onnx
	$(PASSIVE) $(BIN)/din-infer validate $< --requests demo/data/test.parquet --checkpoint demo/din --json >$@ || test -s $@ # the summary judges

demo/scores.parquet: demo/model.onnx
	rm -f $@
	$(BIN)/din-infer score $< demo/data/test.parquet --out $@

demo/report/results.json: demo/model.onnx demo/base/metrics.json
	$(BIN)/din-infer bench request $< --checkpoint demo/din --requests demo/data/test.parquet --out demo/report >/dev/null

# ---- benchmarks ----
.PHONY: bench
bench: build
	$(BIN)/din-infer bench kernel --out build/bench/kernel
	$(BIN)/din-infer bench request --out build/bench/request
	$(BIN)/pytest benchmarks

# ---- style ----
CPP_FILES = $(shell find csrc tests -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.hpp' -o -name '*.h')
.PHONY: lint mypy format tidy
lint: mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)

# mypy sees the installed package: kernels/ and export/ become din_infer.kernels and din_infer.export only there.
mypy: build
	cd build && ../$(BIN)/mypy --config-file ../pyproject.toml --package din_infer

format: build
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP_FILES)

tidy: test-cpp
	clang-tidy -p build/cpp --quiet $(filter csrc/%.cc,$(CPP_FILES))

.PHONY: clean distclean
clean:
	rm -rf build demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks

distclean: clean
	rm -rf .venv
