use std::sync::Arc;

use russh::keys::{PrivateKeyWithHashAlg, load_secret_key};
use russh::{ChannelMsg, client};

use super::*;

struct Client {
    known: String,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &russh::keys::PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let russh::keys::PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        Ok(self.known.contains(&key.to_openssh().unwrap()))
    }
}

struct Connection {
    handle: client::Handle<Client>,
}

impl Connection {
    async fn open(host: &Host) -> Self {
        let known = std::fs::read_to_string(host.known_hosts()).unwrap();
        let config = Arc::new(client::Config { nodelay: true, ..client::Config::default() });
        let mut handle = client::connect(config, host.address(), Client { known }).await.unwrap();
        let key = load_secret_key(host.identity(), None).unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        assert!(handle.authenticate_publickey(host.user(), key).await.unwrap().success());
        Self { handle }
    }

    /// Runs a command with some input; gives exit code, output and complaints.
    async fn run(&self, command: &str, input: &[u8]) -> (Option<u32>, Vec<u8>, Vec<u8>) {
        let mut channel = self.handle.channel_open_session().await.unwrap();
        channel.exec(true, command).await.unwrap();
        let (mut reader, writer) = {
            // The answer to the request comes first.
            while !matches!(channel.wait().await, Some(ChannelMsg::Success)) {}
            channel.split()
        };
        let send = async {
            writer.data(input).await.unwrap();
            writer.eof().await.unwrap();
        };
        let receive = async {
            let (mut code, mut output, mut complaints) = (None, Vec::new(), Vec::new());
            while let Some(message) = reader.wait().await {
                match message {
                    ChannelMsg::Data { data } => output.extend_from_slice(&data),
                    ChannelMsg::ExtendedData { data, ext: 1 } => complaints.extend_from_slice(&data),
                    ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
                    _ => {}
                }
            }
            (code, output, complaints)
        };
        tokio::join!(send, receive).1
    }
}

async fn host() -> (tempfile::TempDir, Host) {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::start(directory.path(), "demo").await.unwrap();
    (directory, host)
}

#[tokio::test]
async fn a_command_has_streams_an_exit_code_and_a_home() {
    let (_directory, host) = host().await;
    let connection = Connection::open(&host).await;
    let (code, output, complaints) = connection.run("echo out; echo err >&2; pwd; echo $HOME; exit 7", b"").await;
    let home = host.home().display();
    assert_eq!((code, String::from_utf8(output).unwrap()), (Some(7), format!("out\n{home}\n{home}\n")));
    assert_eq!(complaints, b"err\n");
    let (_, environment, _) = connection.run("env", b"").await;
    assert!(
        !String::from_utf8(environment).unwrap().contains("CARGO"),
        "the environment of this process shines through"
    );
}

#[tokio::test]
async fn much_goes_in_and_out_of_several_channels_at_once() {
    let (_directory, host) = host().await;
    let connection = Connection::open(&host).await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (one, two, slow) = tokio::join!(
        connection.run("cat", &input),
        connection.run("cat; cat; exit 3", &input),
        connection.run("exit 5", b"unread")
    );
    assert!(one == (Some(0), input.clone(), Vec::new()) && two == (Some(3), input, Vec::new()));
    assert_eq!(slow.0, Some(5));
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let (_directory, host) = host().await;
    let (_other, stranger) = self::host().await;
    let known = std::fs::read_to_string(host.known_hosts()).unwrap();
    let mut handle = client::connect(Arc::default(), host.address(), Client { known }).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(stranger.identity(), None).unwrap()), None);
    assert!(!handle.authenticate_publickey("demo", key).await.unwrap().success());
}

#[tokio::test]
async fn a_command_survives_its_connection() {
    let (_directory, host) = host().await;
    let connection = Connection::open(&host).await;
    let home = host.home().to_owned();
    assert_eq!(connection.run("mkfifo in out", b"").await.0, Some(0));
    let channel = connection.handle.channel_open_session().await.unwrap();
    channel.exec(true, "cat < in > out").await.unwrap();
    // Opening a pipe for writing waits for its reader: the command runs once this returns.
    let input = home.join("in");
    let pipe = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(input).unwrap());
    let output = tokio::task::spawn_blocking(move || std::fs::read_to_string(home.join("out")).unwrap());
    let mut pipe = pipe.await.unwrap();
    host.cut();
    assert!(connection.handle.channel_open_session().await.is_err());
    std::io::Write::write_all(&mut pipe, b"still here").unwrap();
    drop(pipe);
    assert_eq!(output.await.unwrap(), "still here");
    let again = Connection::open(&host).await;
    assert_eq!(again.run("echo back", b"").await.1, b"back\n");
}

#[tokio::test]
async fn ports_are_forwarded_both_ways() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (_directory, host) = host().await;
    let connection = Connection::open(&host).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let channel =
        connection.handle.channel_open_direct_tcpip("127.0.0.1", u32::from(port), "127.0.0.1", 1).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut stream = channel.into_stream();
    stream.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    socket.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    let bound = connection.handle.tcpip_forward("127.0.0.1", 0).await.unwrap();
    assert_ne!(bound, 0);
    let (code, _, _) = connection.run(&format!("kill -0 $$ && test {bound} -gt 0"), b"").await;
    assert_eq!(code, Some(0));
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", u16::try_from(bound).unwrap())).await.is_ok());
}
