// Included before every file of llama.cpp (build.py). Its log is written by a thread of its own and is never deleted: what
// is queued when a tool returns from main is lost, a measured figure too, and the exit code is 0 (llama.cpp issue 22142).
// CMake defines this name for the files of the library that holds the log, which stays loaded to the end.
#if defined(llama_common_EXPORTS) && defined(__cplusplus)
struct common_log;
struct common_log * common_log_main();
void common_log_pause(struct common_log * log);

struct flush_log_at_exit {
    // Pausing ends the thread, once it has written all that is queued.
    ~flush_log_at_exit() { common_log_pause(common_log_main()); }
};
inline flush_log_at_exit flush_log_at_exit_;
#endif
