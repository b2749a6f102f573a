//! A container hook that needs no containers: it notes what it is given and runs scripts on the host itself.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// `createOptions` of the job's container say how it answers to `prepare_job`; `wait` lets it wait for a file `go`.
const PROGRAM: &str = r#"
const fs = require('fs'), path = require('path'), { spawnSync } = require('child_process');
const given = JSON.parse(fs.readFileSync(0, 'utf8'));
const { command, args, state, responseFile } = given;
const near = (name) => path.join(__dirname, name);
fs.appendFileSync(near('notes'), JSON.stringify({ ...given, runner: process.env.RUNNER_NAME }) + '\n');
const answer = (said) => fs.writeFileSync(responseFile, typeof said === 'string' ? said : JSON.stringify(said));
const outside = (mounts) => (text) => {
  const fits = mounts.filter(({ targetVolumePath: at }) => text === at || text.startsWith(at + '/'));
  const best = fits.sort((a, b) => b.targetVolumePath.length - a.targetVolumePath.length)[0];
  return best ? best.sourceVolumePath + text.slice(best.targetVolumePath.length) : text;
};
const environment = (map) => Object.fromEntries(Object.entries(args.environmentVariables).map(([k, v]) => [k, map(v)]));
if (command === 'prepare_job') {
  const how = args.container?.createOptions ?? '';
  console.log('preparing');
  while (how === 'wait' && !fs.existsSync(near('go'))) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  if (how === 'exit') process.exit(3);
  const services = args.services.map((service) => ({ id: service.contextName + '-1', network: 'net-1', ports: { 5432: '15432' } }));
  const said = {
    state: { mounts: args.container?.systemMountVolumes ?? [] },
    context: { container: { id: 'job-1', network: 'net-1' }, services },
    isAlpine: false,
  };
  if (how === 'no alpine') delete said.isAlpine;
  if (how === 'text') answer('this is no document');
  else if (how === 'list') answer([]);
  else if (how !== 'none') answer(said);
} else if (command === 'run_script_step') {
  const map = outside(state.mounts);
  const env = { HOME: process.env.HOME, ...environment(map) };
  env.PATH = [...args.prependPath, env.PATH ?? process.env.PATH].join(':');
  const words = args.entryPointArgs.map(map);
  const ended = spawnSync(map(args.entryPoint), words, { env, cwd: map(args.workingDirectory), stdio: 'inherit' });
  process.exitCode = ended.status ?? 128;
} else if (command === 'run_container_step') {
  const map = outside(args.systemMountVolumes);
  console.log('container of ' + (args.image ?? path.basename(args.dockerfile)) + ': ' + args.entryPointArgs.join(' '));
  fs.appendFileSync(map(args.environmentVariables.GITHUB_OUTPUT), 'from=container\n');
  if (args.entryPoint === 'refuse') answer('{');
  else answer({ state: { ...state, containers: (state.containers ?? 0) + 1 } });
} else {
  console.log('cleaning up');
}
"#;

/// The program in a directory of its own.
pub(crate) struct Hook(tempfile::TempDir);

impl Hook {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("hook.js"), PROGRAM).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What the host's environment has.
    pub(crate) fn variable(&self) -> String {
        variable(&self.path("hook.js"))
    }

    /// The documents it was given.
    pub(crate) fn notes(&self) -> Vec<Json> {
        let text = std::fs::read_to_string(self.path("notes")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The commands it was given.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.notes().iter().map(|note| note["command"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn variable(path: &Path) -> String {
    format!("ACTIONS_RUNNER_CONTAINER_HOOKS={}", path.display())
}
