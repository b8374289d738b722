/* Marks what a shared library shows; all else in it is hidden. */
#ifndef DIN_INFER_EXPORT_H
#define DIN_INFER_EXPORT_H

#if defined(__GNUC__)
#define DIN_INFER_API __attribute__((visibility("default")))
#else
#define DIN_INFER_API
#endif

#endif
