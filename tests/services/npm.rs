//! GitHub's own packages from npm, in a script that node runs.

use std::path::Path;
use std::process::Command;

use towline::services::JobVariables;

use super::serve;
use crate::support::clients;

/// Runs a script with the environment a JavaScript action has.
fn run(directory: &Path, script: &str, variables: &JobVariables, extra: &[(&str, &str)]) -> String {
    let work = tempfile::tempdir_in(directory).unwrap();
    let file = work.path().join("script.mjs");
    std::fs::write(&file, script).unwrap();
    let mut node = Command::new("node");
    node.arg(&file)
        .current_dir(work.path())
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env("GITHUB_SERVER_URL", "https://github.com")
        .env("GITHUB_WORKSPACE", work.path())
        .env("RUNNER_TEMP", work.path())
        .envs(&variables.actions)
        .envs(&variables.all);
    for (name, value) in extra {
        if value.is_empty() {
            node.env_remove(name);
        } else {
            node.env(name, value);
        }
    }
    let done = node.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}

const ARTIFACTS: &str = r#"
import fs from 'node:fs'; import path from 'node:path'; import crypto from 'node:crypto'; import assert from 'node:assert';
import { DefaultArtifactClient } from '@actions/artifact';
const client = new DefaultArtifactClient();
const here = process.cwd();
fs.mkdirSync('in/sub', { recursive: true });
fs.writeFileSync('in/small', 'five!');
fs.writeFileSync('in/sub/ü file', 'in a directory');
fs.writeFileSync('in/large', crypto.randomBytes(20_000_000));
const files = ['in/small', 'in/sub/ü file', 'in/large'].map(file => path.join(here, file));
const made = await client.uploadArtifact('all', files, path.join(here, 'in'), { compressionLevel: 0 });
assert(made.id > 0 && made.size > 20_000_000, JSON.stringify(made));
await client.uploadArtifact('tiny', [files[0]], path.join(here, 'in'), { retentionDays: 1 });
const { artifacts } = await client.listArtifacts();
assert.deepEqual(artifacts.map(one => one.name).sort(), ['all', 'tiny']);
assert.match(artifacts[0].digest, /^sha256:[0-9a-f]{64}$/);
await assert.rejects(client.uploadArtifact('tiny', [files[0]], path.join(here, 'in')), /already exists/);
const { artifact } = await client.getArtifact('all');
assert.equal(artifact.id, made.id);
const got = await client.downloadArtifact(artifact.id, { path: path.join(here, 'out'), expectedHash: artifact.digest });
assert(!got.digestMismatch, JSON.stringify(got));
for (const file of ['small', 'sub/ü file', 'large'])
  assert(fs.readFileSync(path.join('in', file)).equals(fs.readFileSync(path.join('out', file))), file);
assert.equal((await client.deleteArtifact('tiny')).id, artifacts.find(one => one.name === 'tiny').id);
await client.uploadArtifact('tiny', [files[0]], path.join(here, 'in'));
const raw = await client.uploadArtifact('small', [files[0]], path.join(here, 'in'), { skipArchive: true });
const rawArtifact = (await client.getArtifact('small')).artifact;
assert.equal(rawArtifact.id, raw.id);
await client.downloadArtifact(raw.id, { path: path.join(here, 'raw') });
assert.equal(fs.readFileSync(path.join('raw', 'small'), 'utf8'), 'five!');
await assert.rejects(client.getArtifact('nothing'), /not found/i);
console.log('artifacts: done');
"#;

const CACHES: &str = r#"
import fs from 'node:fs'; import crypto from 'node:crypto'; import assert from 'node:assert';
import * as cache from '@actions/cache';
const prefix = process.env.PREFIX;
assert(cache.isFeatureAvailable());
fs.mkdirSync('stuff'); fs.writeFileSync('stuff/a', 'kept'); fs.writeFileSync('stuff/large', crypto.randomBytes(Number(process.env.LARGE)));
const large = fs.readFileSync('stuff/large');
assert.equal(await cache.restoreCache(['stuff'], prefix + '-1', [prefix + '-']), undefined);
assert(await cache.saveCache(['stuff'], prefix + '-1') > 0);
fs.rmSync('stuff', { recursive: true });
assert.equal(await cache.restoreCache(['stuff'], prefix + '-2', [prefix + '-'], { lookupOnly: true }), prefix + '-1');
assert(!fs.existsSync('stuff'));
assert.equal(await cache.restoreCache(['stuff'], prefix + '-2', ['zzz', prefix + '-']), prefix + '-1');
assert.equal(fs.readFileSync('stuff/a', 'utf8'), 'kept');
assert(fs.readFileSync('stuff/large').equals(large));
// A key that is taken is a warning, not an error.
assert.equal(await cache.saveCache(['stuff'], prefix + '-1'), -1);
console.log('caches: done');
"#;

const IDENTITY: &str = r#"
import crypto from 'node:crypto'; import assert from 'node:assert';
import * as core from '@actions/core';
const token = await core.getIDToken('sts.example.org');
const [head, body, signature] = token.split('.');
const decoded = part => JSON.parse(Buffer.from(part, 'base64url'));
const claims = decoded(body);
const discovery = await (await fetch(claims.iss + '/.well-known/openid-configuration')).json();
assert.equal(discovery.issuer, claims.iss);
const { keys } = await (await fetch(discovery.jwks_uri)).json();
const jwk = keys.find(key => key.kid === decoded(head).kid);
assert.deepEqual([jwk.kty, jwk.alg, jwk.use, decoded(head).alg], ['RSA', 'RS256', 'sig', 'RS256']);
const key = crypto.createPublicKey({ key: jwk, format: 'jwk' });
assert(crypto.verify('RSA-SHA256', Buffer.from(head + '.' + body), key, Buffer.from(signature, 'base64url')));
assert.deepEqual([claims.sub, claims.aud, claims.run_id], ['repo:acme/app:ref:refs/heads/main', 'sts.example.org', '1']);
assert(claims.exp > claims.iat && claims.nbf <= claims.iat);
console.log('identity: done');
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_packages_of_github_work() {
    let Some(packages) = clients::toolkit() else { return };
    let directory = tempfile::tempdir().unwrap();
    let served = serve(directory.path(), |_| {}).await;
    let variables = served.services.variables(&served.job(1, 2, "refs/heads/main"));
    let work = tokio::task::spawn_blocking(move || {
        let mut said = run(&packages, ARTIFACTS, &variables, &[]);
        said += &run(&packages, CACHES, &variables, &[("PREFIX", "new"), ("LARGE", "3000000")]);
        // The older protocol: what the client falls back to when the server is nobody it knows.
        let older = [("PREFIX", "old"), ("LARGE", "40000000"), ("ACTIONS_CACHE_SERVICE_V2", "")];
        said += &run(&packages, CACHES, &variables, &older);
        said + &run(&packages, IDENTITY, &variables, &[])
    });
    let said = work.await.unwrap();
    assert_eq!(said.matches(": done").count(), 4, "{said}");
}
