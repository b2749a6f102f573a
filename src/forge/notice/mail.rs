//! Notices by mail.

use std::time::Duration;

use lettre::message::{Mailbox, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use secrecy::ExposeSecret as _;

use super::super::{Error, http};
use super::Notice;
use crate::config::{Mail, MailTls, SecretSource};

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a notice to everybody the table names, in one mail.
pub(super) async fn send(notice: &Notice, mail: &Mail) -> Result<(), Error> {
    let message = message(notice, mail)?;
    let transport = transport(mail)?;
    match tokio::time::timeout(PATIENCE * 2, transport.send(message)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is_permanent() => {
            Err(Error::Undeliverable { host: mail.server.clone(), reason: http::deepest(&error) })
        }
        Ok(Err(error)) => Err(Error::Unreachable { host: mail.server.clone(), reason: http::deepest(&error) }),
        Err(_) => Err(Error::Unreachable { host: mail.server.clone(), reason: "it does not answer".to_owned() }),
    }
}

fn message(notice: &Notice, mail: &Mail) -> Result<Message, Error> {
    let address = |text: &str| text.parse::<Mailbox>().map_err(|_| Error::Address(text.to_owned()));
    // One thread per workflow and branch in the reader's list.
    let domain = mail.from.rsplit('@').next().unwrap_or("towline").trim_end_matches('>').to_owned();
    let id = format!("<run-{}-{}@{domain}>", notice.run, notice.attempt);
    let subject: String = notice.headline().chars().filter(|character| !character.is_control()).collect();
    let mut message = Message::builder()
        .from(address(&mail.from)?)
        .subject(subject)
        .message_id(Some(id))
        .header(header::ContentType::TEXT_PLAIN);
    for to in &mail.to {
        message = message.to(address(to)?);
    }
    let body = format!("{}\n\n{}\n\n{}\n", notice.headline(), notice.details(), notice.url);
    message.body(body).map_err(|error| Error::Address(error.to_string()))
}

fn transport(mail: &Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, Error> {
    let failed = |reason: String| Error::Unreachable { host: mail.server.clone(), reason };
    let (host, port) = match mail.server.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| Error::Address(mail.server.clone()))?),
        None => (mail.server.as_str(), if mail.tls == Some(MailTls::Always) { 465 } else { 587 }),
    };
    let parameters = || -> Result<TlsParameters, Error> {
        let mut builder = TlsParameters::builder(host.to_owned());
        if let Some(path) = &mail.authority {
            let pem =
                std::fs::read(path).map_err(|source| crate::config::Error::Read { path: path.clone(), source })?;
            let certificates = Certificate::from_pem(&pem).map_err(|error| failed(error.to_string()))?;
            builder = builder.add_root_certificate(certificates);
        }
        builder.build_rustls().map_err(|error| failed(error.to_string()))
    };
    // The port says what is usual; 25 is between machines of one network, where often nothing is encrypted.
    let usual = match port {
        465 => MailTls::Always,
        25 => MailTls::IfOffered,
        _ => MailTls::Required,
    };
    let tls = match mail.tls.unwrap_or(usual) {
        MailTls::Always => Tls::Wrapper(parameters()?),
        MailTls::Required => Tls::Required(parameters()?),
        MailTls::IfOffered => Tls::Opportunistic(parameters()?),
        MailTls::Never => Tls::None,
    };
    let mut builder =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).timeout(Some(PATIENCE)).tls(tls);
    if let Some(user) = &mail.user {
        let password = mail.password.as_ref().map(SecretSource::read).transpose()?;
        let password = password.map(|password| password.expose_secret().to_owned()).unwrap_or_default();
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    Ok(builder.build())
}
