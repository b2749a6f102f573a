//! What scripts of actions ask of the API, with GitHub's own client: `actions/github-script` gives them this one.

use super::{Desk, commit, git, way};
use crate::support::clients::toolkit as packages;
use crate::support::sshd::Sshd;

const SCRIPT: &str = r"
import assert from 'node:assert'; import fs from 'node:fs'; import path from 'node:path'; import { pathToFileURL } from 'node:url';
const load = name => import(pathToFileURL(`${process.env.INPUT_PACKAGES}/node_modules/@actions/${name}`));
const { getOctokit, context } = await load('github/lib/github.js');
const tools = await load('tool-cache/lib/tool-cache.js');
const github = getOctokit(process.env.INPUT_TOKEN);
const { rest } = github, repo = context.repo;
assert.deepEqual(repo, { owner: process.env.GITHUB_REPOSITORY.split('/')[0], repo: process.env.GITHUB_REPOSITORY.split('/')[1] });
const sha = context.sha;
const about = await rest.repos.get(repo);
assert.equal(about.data.full_name, process.env.GITHUB_REPOSITORY); assert.equal(about.data.default_branch, 'main');
const ref = await rest.git.getRef({ ...repo, ref: 'heads/main' });
assert.deepEqual([ref.data.ref, ref.data.object.sha, ref.data.object.type], ['refs/heads/main', sha, 'commit']);
assert.equal((await rest.git.getRef({ ...repo, ref: 'tags/v1' })).data.object.type, 'tag');
const tag = await rest.git.getTag({ ...repo, tag_sha: (await rest.git.getRef({ ...repo, ref: 'tags/v1' })).data.object.sha });
assert.equal(tag.data.tag, 'v1'); assert.match(tag.data.message, /the first/);
const file = await rest.repos.getContent({ ...repo, path: 'deep/file' });
assert.equal(Buffer.from(file.data.content, 'base64').toString(), 'in the deep\n');
const raw = await rest.repos.getContent({ ...repo, path: 'README', mediaType: { format: 'raw' } });
assert.equal(Buffer.from(raw.data).toString(), 'hello\n');
const listed = await rest.repos.getContent({ ...repo, path: '' });
assert.deepEqual(listed.data.map(entry => `${entry.type} ${entry.name} ${entry.size}`).sort(), ['dir .github 0', 'dir deep 0', 'file README 6']);
assert.equal((await rest.repos.getReadme(repo)).data.name, 'README');
assert.equal((await rest.repos.getCommit({ ...repo, ref: 'main' })).data.sha, sha);
const made = await rest.git.getCommit({ ...repo, commit_sha: sha });
const tree = await rest.git.getTree({ ...repo, tree_sha: made.data.tree.sha, recursive: '1' });
const blob = tree.data.tree.find(entry => entry.path === 'deep/file');
assert.deepEqual([blob.type, blob.mode, blob.size], ['blob', '100644', 12]);
assert.equal(Buffer.from((await rest.git.getBlob({ ...repo, file_sha: blob.sha })).data.content, 'base64').toString(), 'in the deep\n');
const history = await github.paginate(rest.repos.listCommits, { ...repo, per_page: 1 });
assert.equal(history[0].sha, sha);
assert.equal((await rest.repos.listTags(repo)).data[0].name, 'v1');
// What cannot be read counts as not given; of what is said twice the last counts.
assert.equal((await github.request('GET /repos/{owner}/{repo}/tags?per_page=abc&page=7&page=1', repo)).data[0].name, 'v1');
assert.equal((await rest.repos.getBranch({ ...repo, branch: 'main' })).data.commit.sha, sha);
const compared = await rest.repos.compareCommitsWithBasehead({ ...repo, basehead: 'v1...main' });
assert.equal(compared.data.status, 'ahead'); assert(compared.data.commits.length >= 1); assert(compared.data.files.length >= 1);
assert.deepEqual((await rest.repos.listReleases(repo)).data, []);
// What is not here is not found, in GitHub's shape; nothing hangs, nothing is a page.
for (const asked of await Promise.allSettled([
  rest.issues.listForRepo(repo), rest.issues.createComment({ ...repo, issue_number: 1, body: 'x' }), rest.pulls.get({ ...repo, pull_number: 1 }),
  rest.repos.getLatestRelease(repo), rest.git.getRef({ ...repo, ref: 'heads/none' }), rest.repos.getContent({ ...repo, path: 'none' }),
  rest.repos.get({ owner: 'someone', repo: 'else' }),
])) {
  assert.equal(asked.status, 'rejected', 'there is no such thing'); const error = asked.reason;
  assert.equal(error.status, 404, String(error)); assert.equal(error.response.data.message, 'Not Found');
}
const refused = await getOctokit('ghs_forged').rest.repos.get(repo).catch(error => error);
assert.equal(refused.status, 401);
// Refs are made and removed.
if (process.env.INPUT_WRITE === 'true') {
  const made = await rest.git.createRef({ ...repo, ref: 'refs/tags/made', sha });
  assert.equal(made.status, 201);
  const twice = await rest.git.createRef({ ...repo, ref: 'refs/tags/made', sha }).catch(error => error);
  assert.equal(twice.status, 422); assert.match(twice.message, /already exists/);
  await rest.git.createRef({ ...repo, ref: 'refs/heads/side', sha });
  await rest.git.createRef({ ...repo, ref: 'refs/heads/bot/@types/node', sha });
  assert.equal((await rest.repos.getBranch({ ...repo, branch: 'bot/@types/node' })).data.commit.sha, sha);
  assert.equal((await rest.repos.getContent({ ...repo, path: 'README', ref: 'bot/@types/node' })).data.name, 'README');
  await rest.git.deleteRef({ ...repo, ref: 'heads/bot/@types/node' });
  const parent = made.data.object.sha === sha ? history[1].sha : '';
  const back = await rest.git.updateRef({ ...repo, ref: 'heads/side', sha: parent }).catch(error => error);
  assert.equal(back.status, 422);
  assert.equal((await rest.git.updateRef({ ...repo, ref: 'heads/side', sha: parent, force: true })).data.object.sha, parent);
  await rest.git.deleteRef({ ...repo, ref: 'heads/side' });
  assert.equal((await rest.git.listMatchingRefs({ ...repo, ref: 'tags/m' })).data.length, 1);
} else {
  const error = await rest.git.createRef({ ...repo, ref: 'refs/tags/never', sha }).catch(error => error);
  assert.equal(error.status, 403);
}
// As checkout does without git.
const archive = await rest.repos.downloadTarballArchive({ ...repo, ref: sha });
fs.writeFileSync('archive.tgz', Buffer.from(archive.data));
const unpacked = await tools.extractTar('archive.tgz');
const [top] = fs.readdirSync(unpacked);
assert.equal(fs.readFileSync(path.join(unpacked, top, 'README'), 'utf8'), 'hello\n');
// As set-up actions keep what they got: found by the next job of this host.
const kept = tools.find('thing', '1.x');
if (!kept) {
  fs.mkdirSync('thing', { recursive: true }); fs.writeFileSync('thing/file', 'kept');
  const place = await tools.cacheDir('thing', 'thing', '1.2.3');
  assert(place.startsWith(process.env.RUNNER_TOOL_CACHE), place);
}
console.log(`say: ${kept ? 'found' : 'made'} ${tools.find('thing', '>=1.2.0').endsWith('/thing/1.2.3/' + process.arch)}`);
";

const MANIFEST: &str = "inputs: { packages: {}, write: {}, token: { default: '${{ github.token }}' } }\nruns: { using: node20, main: main.mjs }\n";

fn check(arguments: &[&str]) {
    let Some(packages) = packages() else { return };
    let desk = Desk::new();
    desk.action("o/script", &[("action.yml", MANIFEST), ("main.mjs", SCRIPT)]);
    desk.write("deep/file", "in the deep\n");
    desk.commit();
    git(&desk.path("repo"), &["tag", "-a", "-m", "the first", "v1"]);
    commit(&desk.path("repo"), "more");
    for (permission, words) in [("write", &["made true"][..]), ("read", &["made true", "found true"][..])] {
        let once = format!(
            "      - uses: o/script@v1\n        with: {{ packages: '{}', write: {} }}\n",
            packages.display(),
            permission == "write"
        );
        let workflow = format!(
            "on: push\npermissions: {{ contents: {permission} }}\njobs:\n  one:\n    runs-on: x\n    steps:\n{}",
            once.repeat(words.len())
        );
        let ran = desk.run(&workflow, arguments);
        ran.must_succeed();
        assert_eq!(ran.said(), words, "{}", ran.log);
    }
}

#[test]
fn octokit_and_the_tool_cache_work_here() {
    check(&[]);
}

#[test]
fn octokit_and_the_tool_cache_work_over_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let way = way(&sshd);
    check(&way.iter().map(String::as_str).collect::<Vec<_>>());
}
