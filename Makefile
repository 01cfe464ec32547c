# hull: the commands of a developer. `make help` lists them.

DESTDIR ?=
CARGO   ?= cargo
OUT     ?= $(or $(CARGO_TARGET_DIR),target)
TARGET  ?= $(shell rustc -vV | sed -n 's/^host: //p')
# setup-root runs in initrds of any age, so it brings its C library along.
STATIC  := RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --release --target $(TARGET)

.PHONY: help setup build check test nightly demo bench install install-files clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup    install the Debian packages that tests and the demo need
setup:
	tools/setup

## make build    build hull and setup-root (target/release, target/<arch>/release)
build:
	$(CARGO) build --locked --release --bin hull
	$(STATIC) --package hull-boot --bin setup-root

## make check    the quick loop: format, lints, unit tests, documentation, licences
check:
	tools/check

## make test     everything that CI runs: sets up, checks, and boots virtual machines
test:
	tools/test

## make nightly  what takes too long for CI
nightly:
	tools/nightly

## make demo     the whole story in a virtual machine, with a transcript
demo:
	tools/demo

## make bench    the numbers of docs/numbers.md, side by side with peers
bench:
	tools/bench

## make install  install hull below $(DESTDIR): into a machine, or into an image that is being built
install: build
	@umask 022 && $(MAKE) --no-print-directory install-files

install-files:
	install -D -m 755 $(OUT)/release/hull $(DESTDIR)/usr/bin/hull
	install -D -m 755 $(OUT)/$(TARGET)/release/setup-root $(DESTDIR)/usr/lib/hull/setup-root
	tar -c -C dist --mode=go=u-w usr | tar -x -C $(DESTDIR)/ --no-same-owner --no-overwrite-dir
	install -d $(DESTDIR)/usr/share/man/man8
	$(OUT)/release/hull internals man $(DESTDIR)/usr/share/man/man8
	$(OUT)/release/hull internals completions $(DESTDIR)/usr/share

clean:
	$(CARGO) clean
