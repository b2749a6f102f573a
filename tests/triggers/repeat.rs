//! R9: what a further attempt of a run finds anew.

use towline::engine::RunRecord;

use super::whole::Whole;

const CALLED: &str = "local/shared/.github/workflows/called.yml@main";

fn called(word: &str) -> String {
    format!(
        "on: workflow_call\njobs:\n  fine:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo {word}\n  bad:\n    runs-on: ubuntu-latest\n    steps:\n      - run: exit 1\n"
    )
}

/// The words of the called file in each attempt of a run.
fn words(whole: &Whole, run: &RunRecord) -> Vec<String> {
    let spec = |attempt| whole.daemon().store().spec(run.id, attempt).unwrap().unwrap();
    let word = |attempt| {
        let spec = spec(attempt);
        let text = spec.called[CALLED].text.split("echo ").nth(1).unwrap();
        text.split_whitespace().next().unwrap().to_owned()
    };
    (1..=run.attempt).map(word).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_a_rerun_of_all_jobs_reads_called_files_anew() {
    let whole = Whole::start("").await;
    let shared = whole.project("shared");
    let app = whole.project("app");
    let share = |word: &str| called(word);
    whole.push(&shared, &[(".github/workflows/called.yml", &share("one"))]).await;
    let caller = format!("on: push\njobs:\n  call:\n    uses: {CALLED}\n");
    whole.push(&app, &[(".github/workflows/ci.yml", &caller)]).await;
    whole.ended(1).await;
    let again = |arguments: &'static [&'static str]| {
        let mut command = whole.command();
        async move {
            command.args(["run", "rerun", "1"]).args(arguments);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            String::from_utf8_lossy(&output.stderr).into_owned()
        }
    };
    whole.push(&shared, &[(".github/workflows/called.yml", &share("two"))]).await;
    // Jobs that failed run again as they were; all of them with what the branch has now.
    for (arguments, expect) in [
        (&["--failed"][..], &["one", "one"][..]),
        (&[][..], &["one", "one", "two"][..]),
        (&["--failed"][..], &["one", "one", "two", "two"][..]),
    ] {
        let said = again(arguments).await;
        let run = whole.ended(1).await.remove(0);
        assert_eq!(words(&whole, &run), expect, "{arguments:?}: {said}");
    }
    // A file that is gone is a fault of the run, as in a first attempt.
    let moved = [(".github/workflows/other.yml", share("three"))];
    let moved: Vec<(&str, &str)> = moved.iter().map(|(path, text)| (*path, text.as_str())).collect();
    std::fs::remove_file(shared.join(".github/workflows/called.yml")).unwrap();
    whole.push(&shared, &moved).await;
    let said = again(&[]).await;
    let run = whole.ended(1).await.remove(0);
    assert_eq!(
        (run.attempt, run.conclusion.map(towline::run::Conclusion::as_str)),
        (5, Some("startup_failure")),
        "{said}"
    );
    whole.end().await;
}
