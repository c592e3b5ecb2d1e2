//! What a monitor and its clients say to each other on a stream socket: frames of a kind, a length and a payload.
//!
//! A client's first frame is [`Hello`]. Numbers are little-endian.

use crate::sys::{Error, Kind, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// To the monitor: what the client wants, see [`Hello`].
    Hello(Hello),
    /// To the monitor: bytes for the program's standard input.
    Input(Vec<u8>),
    /// To the monitor: the standard input has ended.
    InputEnd,
    /// To the monitor: the client's terminal has so many rows and columns.
    Size(u16, u16),
    /// To the monitor: a signal for the program.
    Signal(i32),
    /// To the monitor: the client leaves, the program goes on.
    Detach,
    /// To the client: bytes of the program's standard output, or of its terminal.
    Output(Vec<u8>),
    /// To the client: bytes of the program's standard error.
    Errors(Vec<u8>),
    /// To the client: so many bytes of its input went on, or nowhere; who sends no more than it is told may go ahead of
    /// that by [`AHEAD`], and signals are never stuck behind input that a program does not read.
    Taken(u32),
    /// To the client: the program runs; not before is input sent.
    Started,
    /// To the client: the container could not start; the exit code docker has for that, and why.
    Failed(i32, String),
    /// To the client: the container ended.
    Exit(i32),
}

/// What a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Its frames of input go to the program.
    pub input: bool,
    /// It gets the program's output.
    pub output: bool,
    /// The container ends with it, unless it detaches first: a foreground `run`.
    pub foreground: bool,
}

/// The longest payload.
pub const FRAME_MAX: usize = 1 << 16;

/// How much input of a client may be under way, in bytes.
pub const AHEAD: usize = 1 << 16;

const HEAD: usize = 5;

impl Frame {
    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Hello(hello) => (b'H', vec![u8::from(hello.input) | u8::from(hello.output) << 1 | u8::from(hello.foreground) << 2]),
            Self::Input(bytes) => (b'I', bytes.clone()),
            Self::InputEnd => (b'E', Vec::new()),
            Self::Size(rows, columns) => (b'W', [rows.to_le_bytes(), columns.to_le_bytes()].concat()),
            Self::Signal(number) => (b'S', number.to_le_bytes().to_vec()),
            Self::Detach => (b'D', Vec::new()),
            Self::Output(bytes) => (b'O', bytes.clone()),
            Self::Errors(bytes) => (b'R', bytes.clone()),
            Self::Taken(count) => (b'T', count.to_le_bytes().to_vec()),
            Self::Started => (b'+', Vec::new()),
            Self::Failed(code, why) => (b'!', [&code.to_le_bytes(), why.as_bytes()].concat()),
            Self::Exit(code) => (b'X', code.to_le_bytes().to_vec()),
        }
    }

    /// Appends the frame to what is to be sent. Output longer than a frame has to be given in pieces.
    pub fn push(&self, to: &mut VecDeque<u8>) {
        let (kind, payload) = self.parts();
        to.push_back(kind);
        to.extend((payload.len() as u32).to_le_bytes());
        to.extend(payload);
    }

    /// Takes the first frame off what was received; `None` if it is not complete.
    pub fn take(from: &mut Vec<u8>) -> Result<Option<Self>> {
        if from.len() < HEAD {
            return Ok(None);
        }
        let length = u32::from_le_bytes([from[1], from[2], from[3], from[4]]) as usize;
        if length > FRAME_MAX {
            return Err(Error::new(format!("a frame of {length} bytes")));
        }
        if from.len() < HEAD + length {
            return Ok(None);
        }
        let frame = Self::parse(from[0], &from[HEAD..HEAD + length]);
        from.drain(..HEAD + length);
        frame.map(Some)
    }

    fn parse(kind: u8, payload: &[u8]) -> Result<Self> {
        let bad = || Error::new(format!("a frame of kind {kind} with {} bytes", payload.len()));
        let number = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(i32::from_le_bytes).map_err(|_| bad());
        Ok(match (kind, payload) {
            (b'H', [bits]) => Self::Hello(Hello { input: bits & 1 != 0, output: bits & 2 != 0, foreground: bits & 4 != 0 }),
            (b'I', bytes) => Self::Input(bytes.to_vec()),
            (b'E', []) => Self::InputEnd,
            (b'W', &[a, b, c, d]) => Self::Size(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])),
            (b'S', bytes) => Self::Signal(number(bytes)?),
            (b'D', []) => Self::Detach,
            (b'O', bytes) => Self::Output(bytes.to_vec()),
            (b'R', bytes) => Self::Errors(bytes.to_vec()),
            (b'T', bytes) => Self::Taken(number(bytes)?.cast_unsigned()),
            (b'+', []) => Self::Started,
            (b'!', bytes) if bytes.len() >= 4 => Self::Failed(number(&bytes[..4])?, String::from_utf8_lossy(&bytes[4..]).into_owned()),
            (b'X', bytes) => Self::Exit(number(bytes)?),
            _ => return Err(bad()),
        })
    }
}

/// The exit code docker has for a container that could not start: 127 if the program was not found, 126 if it could not
/// be executed, else 125.
pub fn failure_code(error: &Error) -> i32 {
    match (error.get_kind(), error.get_errno()) {
        (Kind::Exec, None | Some(Errno::NOENT)) => 127,
        (Kind::Exec, _) => 126,
        _ => 125,
    }
}

/// A socket with what is under way on it; never blocks.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub socket: OwnedFd,
    received: Vec<u8>,
    to_send: VecDeque<u8>,
    /// The other side is gone.
    pub closed: bool,
}

impl Wire {
    /// Takes a stream socket over.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, received: Vec::new(), to_send: VecDeque::new(), closed: false }
    }

    /// How many bytes still have to go.
    pub fn pending(&self) -> usize {
        self.to_send.len()
    }

    /// Queues a frame and sends what can be sent.
    pub fn send(&mut self, frame: &Frame) {
        frame.push(&mut self.to_send);
        self.flush();
    }

    /// Sends what can be sent.
    pub fn flush(&mut self) {
        while !self.to_send.is_empty() && !self.closed {
            let (first, _) = self.to_send.as_slices();
            match send(&self.socket, first, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => drop(self.to_send.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.close(),
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.to_send.clear();
    }

    /// Receives what is there; complete frames.
    pub fn receive(&mut self) -> Vec<Frame> {
        let mut space = [0; 16384];
        loop {
            match recv(&self.socket, &mut space, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => self.close(),
                Ok((_, count)) => {
                    self.received.extend_from_slice(&space[..count]);
                    if self.received.len() < 4 * FRAME_MAX {
                        continue;
                    }
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => self.close(),
            }
            break;
        }
        let mut frames = Vec::new();
        loop {
            match Frame::take(&mut self.received) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(_) => {
                    self.close();
                    return frames;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_comes_back_as_it_went() {
        let frames = [
            Frame::Hello(Hello { input: true, output: false, foreground: true }),
            Frame::Input(vec![0, 1, 255]),
            Frame::InputEnd,
            Frame::Size(24, 80),
            Frame::Signal(15),
            Frame::Detach,
            Frame::Output(vec![7; FRAME_MAX]),
            Frame::Errors(Vec::new()),
            Frame::Taken(u32::MAX),
            Frame::Started,
            Frame::Failed(127, "no such file".into()),
            Frame::Exit(-1),
        ];
        let mut wire = VecDeque::new();
        frames.iter().for_each(|frame| frame.push(&mut wire));
        let all: Vec<u8> = wire.into();
        let (mut received, mut back) = (Vec::new(), Vec::new());
        for piece in all.chunks(1000) {
            received.extend_from_slice(piece);
            while let Some(frame) = Frame::take(&mut received).unwrap() {
                back.push(frame);
            }
        }
        assert_eq!(back, frames);
        assert!(Frame::take(&mut vec![b'O', 255, 255, 255, 255]).is_err());
        assert!(Frame::take(&mut vec![b'W', 1, 0, 0, 0, 9]).is_err());
    }
}
