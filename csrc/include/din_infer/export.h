/* What a shared library shows; all else in it is hidden. */
#ifndef DIN_INFER_EXPORT_H
#define DIN_INFER_EXPORT_H

#if defined(__GNUC__)
#define DIN_INFER_API __attribute__((visibility("default")))
#define DIN_INFER_HIDDEN __attribute__((visibility("hidden"))) /* of a class that is shown, a part that is not */
#else
#define DIN_INFER_API
#define DIN_INFER_HIDDEN
#endif

#endif
