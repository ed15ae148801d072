//! The folder of a run, and the watchdog that ends all processes of the run when this one has ended,
//! however that was.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `read` returns when the last writer of the pipe is gone. That is this process, since its handle is
/// closed on exec. A pid file may be old: a process is ended only if its arguments or its working folder
/// are in the folder of the run, which has a name of its own. In a process group of its own, the watchdog
/// survives a Ctrl-C in the terminal. libfaketime leaves the shared memory of each process behind that was
/// killed; of a process that is gone, nobody needs it.
const WATCHDOG: &str = r#"
    read -r _
    for file in "$1"/*/*/postgres/postmaster.pid "$1"/*/instance-*.pid; do
        test -f "$file" || continue
        pid=$(head -n 1 "$file")
        { ps -ww -o args= -p "$pid"; readlink "/proc/$pid/cwd"; } 2>/dev/null | grep -qF "$1" || continue
        case $file in
            */postmaster.pid) kill -QUIT "$pid" ;;
            *) kill -KILL "$pid" ;;
        esac 2>/dev/null || continue
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
            kill -0 "$pid" 2>/dev/null || continue 2
            sleep 0.25
        done
        kill -KILL "$pid" 2>/dev/null
    done
    for disk in "$1"/*/*; do
        grep -qsF " $disk tmpfs " /proc/mounts && umount -l "$disk"
    done
    for file in /dev/shm/faketime_shm_* /dev/shm/sem.faketime_sem_*; do
        test -e "/proc/${file##*_}" || rm -f "$file"
    done
    test -n "$2" || rm -rf "$1"
"#;

/// The folder of a run.
pub(crate) struct RunFolder {
    path: PathBuf,
    watchdog: Child,
}

impl RunFolder {
    /// Makes the folder in the system's one for temporary files.
    ///
    /// With `keep` it stays when this process ends.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn make(keep: bool) -> io::Result<Self> {
        // Short, since it holds sockets. Others may pass: as root, the server runs as another user.
        let name = format!("plimsoll-faults-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o755).create(&path)?;
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&path)
            .arg(if keep { "keep" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { path, watchdog })
    }

    /// A new folder for a round.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn of_round(&self, round: usize) -> io::Result<PathBuf> {
        let path = self.path.join(round.to_string());
        DirBuilder::new().mode(0o755).create(&path)?;
        Ok(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    /// Waits, so that nothing is left when the verdict is printed.
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // It ends by itself in any case.
        let _ = self.watchdog.wait();
    }
}
