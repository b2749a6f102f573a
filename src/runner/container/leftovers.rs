//! What containers leave behind: removed by label, whatever happened to the job, the daemon or the machine.

use std::time::Duration;

use crate::run::order::Order;
use crate::transport::Target;

use super::super::Runner;
use super::super::workspace::quote;

/// How long a host may take to remove what a job left when the job itself could not.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A script that removes all containers, networks and images of one job of the root directory whose child the script runs
/// in. It may be run any number of times. Another root on the machine may have a job of the same name.
fn removal(key: &str) -> String {
    let label = format!("{} --filter label=towline.root=\"$r\"", quote(&format!("label=towline.job={key}")));
    format!(
        "r=$(cd .. && pwd)\nfor e in docker podman; do\ncommand -v $e >/dev/null 2>&1 || continue\n\
         t=; [ $e != podman ] || t='--time 0'\n\
         l=$($e ps --all --quiet --filter {label} 2>/dev/null) && [ -n \"$l\" ] && $e rm --force $t --volumes $l\n\
         l=$($e network ls --quiet --filter {label} 2>/dev/null) && [ -n \"$l\" ] && $e network rm $l\n\
         l=$($e images --quiet --filter {label} 2>/dev/null) && [ -n \"$l\" ] && $e rmi --force $l\n\
         done >/dev/null 2>&1\nexit 0\n"
    )
}

/// A script that removes what jobs left that are no longer on the host: their directory is gone, or the machine
/// restarted since. Says what it removed.
pub(super) fn sweep(engine: &str, root: &str) -> String {
    let label = quote(&format!("label=towline.root={root}"));
    let jobs = quote(&format!("{root}/jobs"));
    let engine = quote(engine);
    format!(
        "b=; {{ read -r b </proc/sys/kernel/random/boot_id; }} 2>/dev/null\n\
         here() {{ [ -n \"$1\" ] && [ -d {jobs}/\"$1\" ] || return 1; w=; {{ read -r w <{jobs}/\"$1\"/boot; }} 2>/dev/null\n\
         case $w in \"$b\"*) return 0 ;; esac; return 1; }}\n\
         for c in $({engine} ps --all --quiet --filter {label} 2>/dev/null); do\n\
         j=$({engine} inspect --format '{{{{index .Config.Labels \"towline.job\"}}}}' \"$c\" 2>/dev/null) || continue\n\
         here \"$j\" || {{ {engine} rm --force --volumes \"$c\" >/dev/null 2>&1 && echo \"Removed container $c of job $j\"; }}\ndone\n\
         for n in $({engine} network ls --quiet --filter {label} 2>/dev/null); do\n\
         j=$({engine} network inspect --format '{{{{index .Labels \"towline.job\"}}}}' \"$n\" 2>/dev/null) || continue\n\
         here \"$j\" || {{ {engine} network rm \"$n\" >/dev/null 2>&1 && echo \"Removed network $n of job $j\"; }}\ndone\nexit 0\n"
    )
}

/// The same for a job that is there: its names are known.
pub(super) fn removal_at(root: &str, key: &str) -> String {
    format!("cd {} || exit 0\n{}", quote(&format!("{root}/jobs")), removal(key))
}

/// Removes what a job left that can no longer do so itself. A host that cannot be reached is swept by the next job with
/// containers that runs there.
pub(in super::super) async fn remove(runner: &Runner, target: &Target, order: &Order) {
    let key = runner.job_key(order);
    match tokio::time::timeout(PATIENCE, runner.hosts.exec(target, &removal(&key), b"")).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            log::warn!(job = order.job.0, host:% = target.name; "containers of the job may be left: {error}");
        }
        Err(_) => log::warn!(job = order.job.0, host:% = target.name; "containers of the job may be left: no answer"),
    }
}
