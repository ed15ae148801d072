//! The data folder when `DATA_DIR` is not set.

use std::path::{Path, PathBuf};

use super::folder::cluster_in;
use super::server_user::ServerUser;
use super::socket_folder::short_hash;

/// The default data folder, normally `./data`.
///
/// For root, the user of the server may be unable to reach it, for example below `/root`. Then the
/// default is `/var/lib/plimsoll/<name>-<hash>`, derived from the working folder, so that two clones
/// do not share their data. As root, this runs a few short commands.
pub fn default_data_dir() -> PathBuf {
    match std::env::current_dir() {
        Ok(working_dir) => default_for(&working_dir),
        Err(_) => PathBuf::from("data"),
    }
}

fn default_for(working_dir: &Path) -> PathBuf {
    match ServerUser::choose(&cluster_in(&working_dir.join("data"))) {
        Ok(user) if user.blocked_by(working_dir).is_some() => place_for(working_dir),
        // An error ends here, too: the start meets it again and reports it.
        _ => PathBuf::from("data"),
    }
}

fn place_for(working_dir: &Path) -> PathBuf {
    let name = working_dir.file_name().unwrap_or_default().to_string_lossy();
    let mut hash = short_hash(working_dir);
    hash.truncate(8);
    Path::new("/var/lib/plimsoll").join(format!("{name}-{hash}"))
}

#[cfg(test)]
mod tests {
    use std::fs::DirBuilder;
    use std::os::unix::fs::DirBuilderExt;

    use rustix::process::geteuid;

    use super::*;

    #[test]
    fn it_is_elsewhere_only_where_the_servers_user_cannot_get_to_it() {
        let closed = std::env::temp_dir().join(format!("plimsoll-closed-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&closed).expect("creates a folder");
        let for_closed = default_for(&closed);
        std::fs::remove_dir(&closed).expect("removes it");
        match geteuid().is_root() {
            true => assert_eq!(for_closed, place_for(&closed)),
            false => assert_eq!(for_closed, Path::new("data")),
        }
        assert_eq!(default_for(Path::new("/")), Path::new("data"));
    }

    #[test]
    fn two_clones_of_one_name_get_two_places() {
        let one = place_for(Path::new("/root/plimsoll"));
        let other = place_for(Path::new("/root/old/plimsoll"));
        assert!(one.to_str().is_some_and(|p| p.starts_with("/var/lib/plimsoll/plimsoll-")));
        assert_ne!(one, other);
    }
}
