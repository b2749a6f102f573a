//! Wake-on-LAN.

use std::net::{Ipv4Addr, UdpSocket};

/// Sends the packet that wakes a sleeping machine: six bytes 255, then its address sixteen times, to everyone on the LAN. Whether
/// it woke is seen when it answers.
///
/// # Errors
/// The packet cannot be sent.
pub fn wake(address: [u8; 6]) -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    let packet = packet(address);
    socket.send_to(&packet, (Ipv4Addr::BROADCAST, 9))?;
    Ok(())
}

fn packet(address: [u8; 6]) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    for _ in 0..16 {
        packet.extend_from_slice(&address);
    }
    packet
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_packet_is_102_bytes() {
        let packet = super::packet([1, 2, 3, 4, 5, 6]);
        assert_eq!(
            (packet.len(), &packet[..8], &packet[96..]),
            (102, &[255, 255, 255, 255, 255, 255, 1, 2][..], &[1, 2, 3, 4, 5, 6][..])
        );
    }
}
