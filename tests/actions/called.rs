//! Reusable workflows of other repositories, as `towline exec` finds them.

use super::Desk;

#[test]
fn s18_workflows_of_other_repositories_are_called() {
    let desk = Desk::new();
    let called = "on:\n  workflow_call: {inputs: {word: {type: string}}, outputs: {said: {value: '${{ jobs.go.outputs.said }}'}}}\n\
                  jobs:\n  more: {uses: ./.github/workflows/more.yml}\n  go:\n    needs: more\n    runs-on: x\n    \
                  outputs: {said: '${{ steps.s.outputs.said }}'}\n    steps: [{id: s, run: 'echo \"said=${{ inputs.word }}!\" >>$GITHUB_OUTPUT'}]\n";
    // What it calls by `./` lies beside it, not in the repository that is run.
    let more = "on: workflow_call\njobs:\n  m: {runs-on: x, steps: [{run: 'echo say: more'}]}\n";
    let files = [(".github/workflows/lint.yml", called), (".github/workflows/more.yml", more)];
    desk.action("o/shared", &files);
    let caller = "on: push\njobs:\n  call: {uses: o/shared/.github/workflows/lint.yml@v1, with: {word: hello}}\n  after:\n    \
                  needs: call\n    runs-on: x\n    steps: [{run: 'echo say: ${{ needs.call.outputs.said }}'}]\n";
    let ran = desk.run(caller, &[]);
    assert_eq!(ran.must_succeed().said(), ["more", "hello!"], "{}", ran.log);
    let ran = desk.run(&caller.replace("@v1", "@v2"), &[]);
    assert_ne!(ran.code, Some(0));
    assert!(ran.log.contains("Error calling workflow 'o/shared/.github/workflows/lint.yml@v2'"), "{}", ran.log);
}
