// recvfd receives what a runtime sends to a console or pidfd socket, as the programs of these names in runc's suite do (whose
// source needs libraries that Debian does not have in this version):
//
//	recvtty [--pid-file FILE] [--mode single|null] [--no-stdin] SOCKET    a terminal: copied to stdout, or thrown away
//	pidfd-kill [--pid-file FILE] [--signal NAME] SOCKET                   a pidfd: gets the signal
//	                                                                      once we get SIGTERM
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

const pidfdSendSignal = 424 // the same number on every architecture

var signals = map[string]uintptr{"SIGTERM": 15, "SIGKILL": 9, "SIGHUP": 1, "SIGINT": 2, "SIGUSR1": 10, "SIGUSR2": 12}

var errNothing = errors.New("no descriptor was sent")

func main() {
	pidFile := flag.String("pid-file", "", "")
	mode := flag.String("mode", "single", "")
	noStdin := flag.Bool("no-stdin", false, "")
	name := flag.String("signal", "SIGKILL", "")
	flag.Parse()
	if err := run(*pidFile, *mode, *name, *noStdin); err != nil {
		fmt.Fprintln(os.Stderr, "recvfd:", err)
		os.Exit(1)
	}
}

func run(pidFile, mode, name string, noStdin bool) error {
	// Go removes the socket when the listener is closed.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: flag.Arg(0)})
	if err != nil {
		return err
	}
	defer listener.Close()
	if pidFile != "" {
		if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return err
		}
	}
	told := make(chan os.Signal, 1)
	kill := filepath.Base(os.Args[0]) == "pidfd-kill"
	if kill {
		signal.Notify(told, syscall.SIGTERM)
	}
	for {
		file, err := receive(listener)
		if mode == "null" && errors.Is(err, errNothing) {
			continue // a runtime that failed after it had connected
		}
		if err != nil {
			return err
		}
		switch {
		case kill:
			<-told
			return send(file, name)
		case mode == "null":
			go io.Copy(io.Discard, file)
		default:
			if !noStdin {
				go io.Copy(file, os.Stdin)
			}
			// It ends with EIO once the last process of the container has closed its end.
			_, _ = io.Copy(os.Stdout, file)
			return nil
		}
	}
}

func receive(listener *net.UnixListener) (*os.File, error) {
	connection, err := listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	text, control := make([]byte, 4096), make([]byte, 128)
	_, size, _, _, err := connection.ReadMsgUnix(text, control)
	if err != nil || size == 0 {
		return nil, errNothing
	}
	messages, err := syscall.ParseSocketControlMessage(control[:size])
	if err != nil || len(messages) != 1 {
		return nil, errNothing
	}
	descriptors, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(descriptors) != 1 {
		return nil, errors.New("not one descriptor was sent")
	}
	return os.NewFile(uintptr(descriptors[0]), "received"), nil
}

func send(pidfd *os.File, name string) error {
	number, known := signals[name]
	if !known {
		return fmt.Errorf("unknown signal %s", name)
	}
	if _, _, errno := syscall.Syscall6(pidfdSendSignal, pidfd.Fd(), number, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
