/* A step through the C interface, in C. */
#ifndef ONE_STEP_H
#define ONE_STEP_H

#ifdef __cplusplus
extern "C" {
#endif

/* One sequence of one key: its row must come out as the key's value, all `value`. The first code that isn't
 * BIFOCAL_OK, or BIFOCAL_OK; *out is the row's first element. */
int attend_to_one_key(float value, float* out);

#ifdef __cplusplus
}
#endif

#endif
