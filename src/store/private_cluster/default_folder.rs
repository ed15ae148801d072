//! Where the data lies when nobody said where.

use std::path::{Path, PathBuf};

use super::folder::cluster_in;
use super::server_user::ServerUser;
use super::socket_folder::short_hash;

/// The data folder where `DATA_DIR` is not set: `./data`.
///
/// As root it may be out of reach of the user that the server has to run as (a clone in `/root`,
/// for one). Then it is `/var/lib/plimsoll/<name>-<hash>`, after the working folder, so that two
/// clones do not share their data. Runs a few short commands when root.
pub fn default_data_dir() -> PathBuf {
    let here = PathBuf::from("data");
    let Ok(working_dir) = std::env::current_dir() else { return here };
    match ServerUser::choose(&cluster_in(&here)) {
        Ok(user) if user.blocked_by(&working_dir).is_some() => place_for(&working_dir),
        _ => here,
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
    use super::*;

    #[test]
    fn two_clones_of_one_name_get_two_places() {
        let one = place_for(Path::new("/root/plimsoll"));
        let other = place_for(Path::new("/root/old/plimsoll"));
        assert!(one.to_str().is_some_and(|p| p.starts_with("/var/lib/plimsoll/plimsoll-")));
        assert_ne!(one, other);
    }
}
