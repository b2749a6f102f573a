use super::*;

const NONCE: &str = "00112233445566778899aabbccddeeff";

fn mark(number: u32, rest: &str) -> Vec<u8> {
    format!("\u{1e}{} {number} {rest}\n", step_nonce(NONCE, number)).into_bytes()
}

/// All parts of a spool, its output joined, when it arrives in chunks of a size.
fn read(spool: &[u8], chunk: usize, ended: u32) -> (Vec<u8>, Vec<Mark>) {
    let mut reader = Reader::new(NONCE, 0, ended);
    let (mut output, mut marks) = (Vec::new(), Vec::new());
    for bytes in spool.chunks(chunk) {
        reader.push(Bytes::copy_from_slice(bytes));
        while let Some(part) = reader.next() {
            match part {
                Part::Output(bytes, offset) => {
                    output.extend_from_slice(&bytes);
                    assert!(offset <= spool.len() as u64);
                }
                Part::End(mark) => marks.push(mark),
            }
        }
    }
    (output, marks)
}

#[test]
fn output_and_marks_do_not_depend_on_chunk_borders() {
    let mut spool = b"one\ntwo \x1e without newline".to_vec();
    spool.extend(mark(1, "c 7 2 0 0 0 3"));
    spool.extend(b"A=sum");
    spool.extend(b"\x1e\x1enext\n");
    spool.extend(mark(2, "t 143 apart 100000 0 0 0 0"));
    for chunk in 1..spool.len() {
        let (output, marks) = read(&spool, chunk, 0);
        assert_eq!(output, b"one\ntwo \x1e without newline\x1e\x1enext\n", "chunk {chunk}");
        assert_eq!(marks.len(), 2);
        let files = marks[0].files.as_ref().expect("in the spool");
        assert_eq!((marks[0].number, marks[0].kind, marks[0].code), (1, 'c', 7));
        assert_eq!((&files.env[..], &files.summary[..]), (&b"A="[..], &b"sum"[..]));
        assert_eq!(marks[1].files, Err([100_000, 0, 0, 0, 0]));
        assert_eq!(marks[1].offset, spool.len() as u64);
    }
}

#[test]
fn forged_and_repeated_marks_are_output() {
    let old = mark(1, "c 0 0 0 0 0 0");
    let mut forged = mark(2, "c 0 0 0 0 0 0");
    forged[3] = if forged[3] == b'0' { b'1' } else { b'0' };
    let mut spool = mark(1, "c 0 0 0 0 0 0");
    spool.extend(&old);
    spool.extend(&forged);
    spool.extend(b"tail\n");
    let expected: Vec<u8> = [&old[..], &forged, b"tail\n"].concat();
    for chunk in 1..spool.len() {
        let (output, marks) = read(&spool, chunk, 0);
        assert_eq!((output, marks.len()), (expected.clone(), 1), "chunk {chunk}");
    }
    let (output, marks) = read(&old, 1000, 1);
    assert_eq!((output, marks.len()), (old, 0));
}

#[test]
fn a_restart_repeats_what_was_held_back() {
    let mut reader = Reader::new(NONCE, 100, 0);
    let whole = mark(1, "c 0 3 0 0 0 0");
    reader.push(Bytes::copy_from_slice(b"abc"));
    assert_eq!(reader.next(), Some(Part::Output(Bytes::from_static(b"abc"), 103)));
    reader.push(Bytes::copy_from_slice(&whole));
    assert_eq!(reader.next(), None);
    assert_eq!(reader.restart(), 103);
    reader.push(Bytes::from([&whole[..], b"X=1"].concat()));
    assert!(matches!(reader.next(), Some(Part::End(mark)) if mark.offset == 103 + whole.len() as u64 + 3));
}
