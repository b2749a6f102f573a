//! The scheduler's rules by example; the simulation of the engine tries them at random.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Claim, GroupKey, GroupPolicy, Groups, Holder, HostFacts, LabelMap, Obstacle, PENDING_LIMIT, Queue, Request,
};
use crate::id::{HostName, JobId, RepositoryName, RunId};

const SINGLE: GroupPolicy = GroupPolicy { cancel_in_progress: false, queue_max: false };
const MAX: GroupPolicy = GroupPolicy { cancel_in_progress: false, queue_max: true };
const CANCELS: GroupPolicy = GroupPolicy { cancel_in_progress: true, queue_max: false };

fn key(name: &str) -> GroupKey {
    GroupKey::new(&"o/r".into(), name)
}

fn run(number: u64) -> Holder {
    Holder::Run(RunId(number))
}

fn pending(replaced: &[Holder], cancel: Option<Holder>) -> Claim {
    Claim::Pending { replaced: replaced.to_vec(), cancel }
}

#[test]
fn q1_a_group_is_shared_without_case_within_its_repository() {
    let mut groups = Groups::default();
    assert_eq!(groups.claim(&key("Deploy"), run(1), SINGLE), Claim::Granted);
    assert_eq!(groups.claim(&key("dePLOY"), Holder::Job(JobId(7)), SINGLE), pending(&[], None));
    let elsewhere = GroupKey::new(&"o/other".into(), "deploy");
    assert_eq!(groups.claim(&elsewhere, run(2), SINGLE), Claim::Granted);
    assert_eq!(groups.release(&key("deploy"), run(1)), Some(Holder::Job(JobId(7))));
    assert_eq!(groups.holder(&key("deploy")), Some(Holder::Job(JobId(7))));
}

#[test]
fn q2_a_newcomer_takes_the_place_of_the_one_that_waits() {
    let mut groups = Groups::default();
    let group = key("g");
    assert_eq!(groups.claim(&group, run(1), SINGLE), Claim::Granted);
    assert_eq!(groups.claim(&group, run(1), SINGLE), Claim::Granted);
    assert_eq!(groups.claim(&group, run(2), SINGLE), pending(&[], None));
    assert_eq!(groups.claim(&group, run(2), SINGLE), pending(&[], None));
    assert_eq!(groups.claim(&group, run(3), SINGLE), pending(&[run(2)], None));
    assert_eq!(groups.release(&group, run(2)), None);
    assert_eq!(groups.release(&group, run(1)), Some(run(3)));
    assert_eq!(groups.release(&group, run(3)), None);
    assert_eq!(groups.iter().count(), 0);
}

#[test]
fn q3_cancel_in_progress_asks_the_holder_to_stop_and_waits_for_it() {
    let mut groups = Groups::default();
    let group = key("g");
    assert_eq!(groups.claim(&group, run(1), CANCELS), Claim::Granted);
    assert_eq!(groups.claim(&group, run(2), CANCELS), pending(&[], Some(run(1))));
    assert_eq!(groups.claim(&group, run(3), CANCELS), pending(&[run(2)], Some(run(1))));
    assert_eq!(groups.holder(&group), Some(run(1)));
}

#[test]
fn q4_queue_max_is_first_come_first_served_and_bounded() {
    let mut groups = Groups::default();
    let group = key("g");
    let last = 1 + PENDING_LIMIT as u64;
    assert_eq!(groups.claim(&group, run(1), MAX), Claim::Granted);
    for number in 2..=last {
        assert_eq!(groups.claim(&group, run(number), MAX), pending(&[], None));
    }
    assert_eq!(groups.claim(&group, run(last + 1), MAX), Claim::Full);
    for number in 1..last {
        assert_eq!(groups.release(&group, run(number)), Some(run(number + 1)));
    }
}

#[test]
fn a_device_belongs_to_all_repositories_and_turns_nobody_away() {
    let mut groups = Groups::default();
    let (one, other) =
        (GroupKey::new(&"o/a".into(), "host:selene/GPU"), GroupKey::new(&"o/b".into(), "HOST:selene/gpu"));
    assert_eq!(one, other);
    assert_eq!(groups.claim(&one, run(1), CANCELS), Claim::Granted);
    assert_eq!(groups.claim(&other, run(2), CANCELS), pending(&[], None));
    assert_eq!(groups.claim(&one, run(3), SINGLE), pending(&[], None));
    assert_eq!(groups.release(&one, run(1)), Some(run(2)));
}

fn host(name: &str, slots: u32, labels: &[&str]) -> HostFacts {
    HostFacts {
        name: name.into(),
        slots,
        os: "Linux".to_owned(),
        arch: "X64".to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        label_limits: BTreeMap::new(),
        repositories: Vec::new(),
    }
}

fn request(job: u64, repository: &str, labels: &[&str]) -> Request {
    Request {
        job: JobId(job),
        repository: RepositoryName::from(repository),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        weight: 1,
        priority: 0,
        avoid: Vec::new(),
        only: None,
        since: Timestamp::UNIX_EPOCH,
    }
}

fn queue(hosts: &[HostFacts]) -> Queue {
    let mut queue = Queue::new(LabelMap::default());
    hosts.iter().cloned().for_each(|host| queue.host_up(host));
    queue
}

fn started(queue: &mut Queue) -> Vec<(u64, String)> {
    queue.assign().into_iter().map(|assignment| (assignment.job.0, assignment.host.0)).collect()
}

/// Ends what runs and starts what is next, until nothing waits: the order of starts on one slot.
fn order(queue: &mut Queue) -> Vec<u64> {
    let mut order = Vec::new();
    loop {
        let jobs: Vec<u64> = started(queue).into_iter().map(|(job, _)| job).collect();
        if jobs.is_empty() {
            return order;
        }
        for job in jobs {
            order.push(job);
            queue.release(JobId(job));
        }
    }
}

#[test]
fn s5_all_labels_must_match_without_case() {
    let cases: [(&[&str], bool); 12] = [
        (&["self-hosted", "LINUX", "x64"], true),
        (&["Selene"], true),
        (&["gpu", "Selene"], true),
        (&["ubuntu-latest"], true),
        (&["ubuntu-24.04"], true),
        (&["ubuntu-24.04-arm"], false),
        (&["ubuntu-like"], false),
        (&["macos-14"], false),
        (&["windows-latest"], false),
        (&["linux", "arm64"], false),
        (&["gpu", "fpga"], false),
        (&[], true),
    ];
    for (labels, expected) in cases {
        let mut queue = queue(&[host("selene", 1, &["GPU"])]);
        queue.enqueue(request(1, "o/r", labels));
        assert_eq!(!queue.assign().is_empty(), expected, "{labels:?}");
    }
    let mut queue = queue(&[host("selene", 1, &["GPU"])]);
    queue.set_label_map(LabelMap::new([("ubuntu-latest".to_owned(), vec!["fpga".to_owned()])]));
    queue.enqueue(request(1, "o/r", &["ubuntu-latest"]));
    assert!(queue.assign().is_empty(), "a configured meaning goes before GitHub's");
    queue.host_up(host("helios", 1, &["FPGA"]));
    assert_eq!(started(&mut queue), [(1, "helios".to_owned())]);
}

#[test]
fn repositories_take_turns_and_their_own_jobs_keep_their_order() {
    let mut queue = queue(&[host("alpha", 1, &[])]);
    for job in 1..=4 {
        queue.enqueue(request(job, "o/busy", &["linux"]));
    }
    queue.enqueue(request(10, "o/quiet", &["linux"]));
    queue.enqueue(request(20, "o/other", &["linux"]));
    queue.enqueue(request(11, "o/quiet", &["linux"]));
    assert_eq!(order(&mut queue), [1, 10, 20, 2, 11, 3, 4]);
}

#[test]
fn a_priority_goes_ahead_but_nobody_waits_for_ever() {
    let mut queue = queue(&[host("alpha", 1, &[])]);
    for job in 1..=3 {
        queue.enqueue(request(job, "o/normal", &["linux"]));
    }
    queue.enqueue(Request { priority: 1, ..request(9, "o/urgent", &["linux"]) });
    assert_eq!(started(&mut queue), [(9, "alpha".to_owned())]);
    queue.release(JobId(9));
    // An endless stream of urgent jobs, one after the other.
    let mut normal = 0;
    for job in 100..400 {
        queue.enqueue(Request { priority: 1, ..request(job, "o/urgent", &["linux"]) });
        for (started, _) in started(&mut queue) {
            normal += usize::from(started < 9);
            queue.release(JobId(started));
        }
    }
    assert_eq!(normal, 3);
}

#[test]
fn a_job_of_several_slots_is_not_starved_by_small_ones() {
    let mut queue = queue(&[host("alpha", 2, &[])]);
    queue.enqueue(request(1, "o/r", &["linux"]));
    assert_eq!(started(&mut queue).len(), 1);
    queue.enqueue(Request { weight: 2, ..request(2, "o/r", &["linux"]) });
    queue.enqueue(request(3, "o/r", &["linux"]));
    assert_eq!(started(&mut queue), [], "the free slot is kept for job 2");
    assert_eq!(queue.why(JobId(3))[0].obstacle, Obstacle::HostReserved { host: "alpha".into(), job: JobId(2) });
    queue.release(JobId(1));
    assert_eq!(started(&mut queue), [(2, "alpha".to_owned())]);
    queue.release(JobId(2));
    assert_eq!(started(&mut queue), [(3, "alpha".to_owned())]);
}

#[test]
fn the_host_that_holds_the_workspace_is_preferred_when_it_is_free() {
    let mut queue = queue(&[host("alpha", 1, &[]), host("beta", 1, &[])]);
    queue.enqueue(request(1, "o/a", &["alpha"]));
    queue.enqueue(request(2, "o/b", &["beta"]));
    assert_eq!(started(&mut queue).len(), 2);
    queue.release(JobId(1));
    queue.release(JobId(2));
    queue.enqueue(request(3, "o/b", &["linux"]));
    assert_eq!(started(&mut queue), [(3, "beta".to_owned())]);
    queue.enqueue(request(4, "o/b", &["linux"]));
    assert_eq!(started(&mut queue), [(4, "alpha".to_owned())], "rather elsewhere than wait");
}

#[test]
fn a_label_has_its_limit_on_a_host() {
    let mut facts = host("alpha", 4, &["licence"]);
    facts.label_limits.insert("Licence".to_owned(), 1);
    let mut queue = queue(&[facts]);
    queue.enqueue(request(1, "o/r", &["licence"]));
    queue.enqueue(request(2, "o/r", &["licence"]));
    queue.enqueue(request(3, "o/r", &["linux"]));
    assert_eq!(started(&mut queue).iter().map(|(job, _)| *job).collect::<Vec<_>>(), [1, 3]);
    let obstacle = Obstacle::LabelLimit { host: "alpha".into(), label: "licence".to_owned() };
    assert_eq!(queue.why(JobId(2))[0].obstacle, obstacle);
    queue.release(JobId(1));
    assert_eq!(started(&mut queue), [(2, "alpha".to_owned())]);
}

#[test]
fn a_host_may_serve_some_repositories_only() {
    let mut queue = queue(&[]);
    for (job, repository) in [(1, "o/app"), (2, "o/other"), (3, "ada/x"), (4, "o/other")] {
        queue.enqueue(request(job, repository, &["linux"]));
    }
    // It comes when jobs wait already; names have no case.
    queue.host_up(HostFacts { repositories: vec!["O/App".to_owned(), "ada/*".to_owned()], ..host("alpha", 4, &[]) });
    assert_eq!(started(&mut queue), [(1, "alpha".to_owned()), (3, "alpha".to_owned())]);
    let why = queue.why(JobId(2));
    assert_eq!(why[0].obstacle, Obstacle::OtherRepositories { hosts: vec!["alpha".into()] });
    assert_eq!(why[0].to_string(), "only alpha has the labels, and not for this repository");
    // It serves all again.
    queue.host_up(host("alpha", 3, &[]));
    assert_eq!(started(&mut queue), [(2, "alpha".to_owned())]);
    queue.host_up(HostFacts { repositories: vec!["o/app".to_owned()], ..host("beta", 4, &[]) });
    assert!(started(&mut queue).is_empty());
    queue.host_removed(&"beta".into());
    queue.release(JobId(1));
    assert_eq!(started(&mut queue), [(4, "alpha".to_owned())]);
}

#[test]
fn every_waiting_job_says_why() {
    let mut queue = queue(&[host("alpha", 1, &[]), host("beta", 2, &["gpu"])]);
    let name = HostName::from("alpha");
    queue.enqueue(request(1, "o/r", &["alpha"]));
    assert_eq!(started(&mut queue).len(), 1);
    queue.enqueue(request(2, "o/r", &["alpha"]));
    queue.enqueue(request(3, "o/r", &["alpha"]));
    queue.enqueue(request(4, "o/r", &["gpu", "fpga"]));
    queue.enqueue(Request { weight: 3, ..request(5, "o/r", &["gpu"]) });
    queue.enqueue(Request { avoid: vec!["alpha".into()], ..request(6, "o/r", &["alpha"]) });
    queue.enqueue(Request { only: Some("selene".into()), ..request(7, "o/r", &["linux"]) });
    assert_eq!(started(&mut queue), []);
    let why = |queue: &Queue, job| {
        queue.why(JobId(job)).iter().map(|reason| format!("{reason}; {}", reason.remedy())).collect::<Vec<_>>()
    };
    let said = [
        (2, "all slots are taken on alpha; it is next: it starts when one of these ends a job"),
        (3, "all slots are taken on alpha; it starts after the 1 job before it has started"),
        (
            4,
            "no host has the labels `fpga`, `gpu`; beta comes closest but lacks `fpga`; add the label `fpga` to beta, or a host that has all of them",
        ),
        (5, "it takes 3 slots and the largest matching host has 2; give a matching host at least 3 slots"),
        (6, "all matching hosts died under it: alpha; add another host with the same labels, or cancel and re-run"),
        (7, "its group binds it to selene, which is not a known host; add the host selene: `towline host add selene`"),
    ];
    for (job, expected) in said {
        assert_eq!(why(&queue, job)[0], expected, "job {job}");
    }
    queue.host_down(&name);
    assert_eq!(queue.why(JobId(2))[0].obstacle, Obstacle::HostDown { host: name.clone() });
    queue.host_up(host("alpha", 1, &[]));
    queue.set_draining(&name, true);
    assert_eq!(queue.why(JobId(2))[0].obstacle, Obstacle::HostDraining { host: name.clone() });
    queue.set_paused(true);
    assert_eq!(queue.why(JobId(2))[0].obstacle, Obstacle::QueuePaused);
    assert!(queue.why(JobId(1)).is_empty() && queue.why(JobId(99)).is_empty());
}

#[test]
fn a_host_that_is_removed_and_comes_back_still_counts_its_jobs() {
    let mut queue = queue(&[host("alpha", 1, &[])]);
    queue.enqueue(request(1, "o/r", &["linux"]));
    assert_eq!(started(&mut queue).len(), 1);
    queue.host_removed(&"alpha".into());
    queue.host_up(host("alpha", 1, &[]));
    queue.enqueue(request(2, "o/r", &["linux"]));
    assert_eq!(started(&mut queue), []);
    queue.release(JobId(1));
    assert_eq!(started(&mut queue), [(2, "alpha".to_owned())]);
}
