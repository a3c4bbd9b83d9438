//! What the process does about its own memory, which may hold the root key: it leaves no core dumps behind.

/// Forbids core dumps, and reading this process's memory by others of the same account where the system knows how.
///
/// Best effort: a system that says no is still a system on which the command should work.
pub(crate) fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Failures are of no consequence here; see above.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
