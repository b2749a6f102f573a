//! The workspaces kept on a host stay below its quota: those that were not used for longest go first.
//!
//! A workspace is moved aside before it is removed, in a moment in which no job can get its slot. Nothing behind a link is
//! measured or removed.

use crate::transport::{Hosts, Target, TransportError};

use super::workspace::quote;

/// Size in KiB, last use and path of every workspace, a line each. Run beside the directory of workspaces.
const LIST: &str = "cd ../work 2>/dev/null || exit 0\nfor w in */*/*; do\n\
    s=${w%%/*}; o=${w#*/}; r=${o#*/}; o=${o%%/*}\n\
    case $o in _*) continue ;; esac\n\
    [ -d \"$w\" ] && [ ! -L \"$w\" ] && [ ! -L \"$s/$o\" ] && [ ! -L \"$s\" ] || continue\n\
    used=0\n{ read -r used <\"$s/_used/$o,$r\"; } 2>/dev/null\n\
    set -- $(du -sk \"$w\" 2>/dev/null)\necho \"${1:-0} ${used:-0} $w\"\ndone\n";

/// One workspace on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    bytes: u64,
    /// Seconds since 1970; 0 when nobody knows.
    used: u64,
    slot: u32,
    /// `<slot>/<owner>/<repo>`.
    path: String,
}

/// The right to a slot for a moment.
pub(super) trait Slots {
    /// Takes a slot that no job has; false when one has it.
    fn take(&self, slot: u32) -> bool;
    /// Gives it back.
    fn give_back(&self, slot: u32);
}

/// Removes workspaces until those that are left fit into `quota` bytes; says which went.
///
/// # Errors
/// The host cannot be reached.
pub(super) async fn enforce(
    hosts: &Hosts,
    target: &Target,
    quota: u64,
    slots: &impl Slots,
) -> Result<Vec<String>, TransportError> {
    let listed = hosts.exec(target, LIST, b"").await?;
    let kept = oldest_first(parse(&String::from_utf8_lossy(&listed.stdout)));
    let mut total: u64 = kept.iter().map(|one| one.bytes).sum();
    let mut gone = Vec::new();
    for one in kept {
        if total <= quota {
            break;
        }
        // One that is in use stays, so a younger one may have to go in its place.
        if !slots.take(one.slot) {
            continue;
        }
        let path = quote(&one.path);
        let script = format!(
            "cd ../work && mkdir -p {slot}/_aside && mv -- {path} {slot}/_aside/quota.$$ && rm -f -- {slot}/_used/{name}\n",
            slot = one.slot,
            name = quote(&one.path.split('/').skip(1).collect::<Vec<_>>().join(",")),
        );
        let moved = hosts.exec(target, &script, b"").await;
        slots.give_back(one.slot);
        if moved?.status == 0 {
            total = total.saturating_sub(one.bytes);
            gone.push(one.path);
        }
    }
    if !gone.is_empty() {
        // What the user may not remove stays aside, and is no workspace any more.
        hosts.exec(target, "cd ../work && rm -rf -- */_aside/quota.* 2>/dev/null; true\n", b"").await?;
    }
    Ok(gone)
}

fn parse(text: &str) -> Vec<Kept> {
    let line = |line: &str| {
        let (size, rest) = line.split_once(' ')?;
        let (used, path) = rest.split_once(' ')?;
        let slot = path.split('/').next()?.parse().ok()?;
        Some(Kept {
            bytes: size.parse::<u64>().ok()?.saturating_mul(1024),
            used: used.parse().unwrap_or(0),
            slot,
            path: path.to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// The least recently used in front; those of which nobody knows when before all.
fn oldest_first(mut kept: Vec<Kept>) -> Vec<Kept> {
    kept.sort_by(|one, other| (one.used, &one.path).cmp(&(other.used, &other.path)));
    kept
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::id::HostName;
    use crate::transport::Way;

    #[test]
    fn the_oldest_come_first() {
        let kept = parse("10 300 1/o/c\n10 100 1/o/a\nnonsense\n10 200 2/o/b\n10 x 2/o/never\n");
        assert_eq!(kept.iter().map(|one| one.bytes).sum::<u64>(), 40 * 1024);
        let paths: Vec<_> = oldest_first(kept).into_iter().map(|one| one.path).collect();
        assert_eq!(paths, ["2/o/never", "1/o/a", "2/o/b", "1/o/c"]);
    }

    struct Busy(u32);

    impl Slots for Busy {
        fn take(&self, slot: u32) -> bool {
            slot != self.0
        }
        fn give_back(&self, _slot: u32) {}
    }

    #[tokio::test]
    async fn workspaces_go_and_what_links_point_to_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("root");
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("precious"), vec![1; 100_000]).expect("written");
        for (path, used) in [("1/o/old", 100), ("1/o/new", 900), ("2/o/running", 50)] {
            let place = root.join("work").join(path);
            fs::create_dir_all(&place).expect("made");
            fs::write(place.join("file"), vec![1; 100_000]).expect("written");
            std::os::unix::fs::symlink(&outside, place.join("link")).expect("linked");
            let (slot, name) = path.split_once('/').expect("a path");
            fs::create_dir_all(root.join("work").join(slot).join("_used")).expect("made");
            let stamp = root.join("work").join(slot).join("_used").join(name.replace('/', ","));
            fs::write(stamp, format!("{used}\n")).expect("written");
        }
        std::os::unix::fs::symlink(&outside, root.join("work/1/o/linked")).expect("linked");
        let target =
            Target { name: HostName::from("local"), way: Way::Local, root: root.to_str().expect("text").to_owned() };
        let gone = enforce(&Hosts::new(), &target, 250_000, &Busy(2)).await.expect("reachable");
        assert_eq!(gone, ["1/o/old"]);
        assert!(!root.join("work/1/o/old").exists() && root.join("work/1/o/new/file").exists());
        assert!(root.join("work/2/o/running/file").exists() && outside.join("precious").exists());
        assert!(fs::symlink_metadata(root.join("work/1/o/linked")).is_ok());
        assert_eq!(fs::read_dir(root.join("work/1/_aside")).expect("there").count(), 0);
    }
}
