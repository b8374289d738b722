/* consumer MODEL BATCH: prints the score of each candidate, in hexadecimal. BATCH is the text that
 * test_cmake_package.py writes: the number of requests, then a line per column with its name, type, levels of lists and
 * arrays, each of which has its size before it. */
#include <din_infer/din_infer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(din_infer_status status) {
  if (status == DIN_INFER_OK) return;
  fprintf(stderr, "%d: %s\n", (int)status, din_infer_last_error());
  exit(1);
}

static void expect(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "expected %s\n", what);
  exit(1);
}

static int64_t read_int(FILE* file) {
  long long value;
  expect(fscanf(file, "%lld", &value) == 1, "an integer");
  return value;
}

static void* allocate(int64_t count, size_t size) {
  void* memory = calloc((size_t)count + 1, size);
  expect(memory != NULL, "memory");
  return memory;
}

/* The arrays of a batch, which lives as long as the program. */
static int64_t* read_ints(FILE* file, int64_t* size) {
  *size = read_int(file);
  int64_t* values = allocate(*size, sizeof(int64_t));
  for (int64_t i = 0; i < *size; ++i) values[i] = read_int(file);
  return values;
}

static float* read_floats(FILE* file, int64_t* size) {
  *size = read_int(file);
  float* values = allocate(*size, sizeof(float));
  for (int64_t i = 0; i < *size; ++i) expect(fscanf(file, "%f", &values[i]) == 1, "a number");
  return values;
}

static void read_strings(FILE* file, din_infer_batch* batch, const char* name) {
  int64_t bytes, size;
  const int64_t* codes = read_ints(file, &bytes);
  char* characters = allocate(bytes, 1);
  for (int64_t i = 0; i < bytes; ++i) characters[i] = (char)codes[i];
  const int64_t* offsets = read_ints(file, &size);
  check(din_infer_batch_set_strings(batch, name, characters, offsets, size - 1));
}

static int read_column(FILE* file, din_infer_batch* batch) {
  char name[256], type[16];
  if (fscanf(file, "%255s %15s", name, type) != 2) return 0;
  const int64_t levels = read_int(file);
  int64_t size;
  if (strcmp(type, "string") == 0) {
    read_strings(file, batch, name);
  } else if (strcmp(type, "float32") == 0) {
    const float* values = read_floats(file, &size);
    check(din_infer_batch_set_floats(batch, name, values, size));
  } else {
    const int64_t* values = read_ints(file, &size);
    check(din_infer_batch_set_int64s(batch, name, values, size));
  }
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t* offsets = read_ints(file, &size);
    check(din_infer_batch_add_lists(batch, name, offsets, size));
  }
  return 1;
}

int main(int argc, char** argv) {
  expect(argc == 3, "MODEL BATCH");
  din_infer_model* model;
  din_infer_scorer* scorer;
  din_infer_batch* batch;
  check(din_infer_model_load(argv[1], &model));
  check(din_infer_scorer_create(model, NULL, &scorer));
  check(din_infer_batch_create(&batch));
  FILE* file = fopen(argv[2], "r");
  expect(file != NULL, "a batch that can be opened");
  check(din_infer_batch_set_requests(batch, read_int(file)));
  while (read_column(file, batch)) continue;
  fclose(file);

  int64_t candidates;
  check(din_infer_scorer_candidates(scorer, batch, &candidates));
  float* scores = allocate(candidates, sizeof(float));
  check(din_infer_scorer_score(scorer, batch, scores, candidates));
  for (int64_t i = 0; i < candidates; ++i) printf("%a\n", (double)scores[i]);

  din_infer_batch_free(batch);
  din_infer_scorer_free(scorer);
  din_infer_model_free(model);
  return 0;
}
