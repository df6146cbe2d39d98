# Build contactsync with PGXS.
#
#   make, make install     build and install for the pg_config in PATH, or for PG_CONFIG=...
#   make installcheck      test the installed extension on temporary servers
#   make tempcheck         build and test in a temporary directory; nothing needs to be installed or configured
#   make lint indent       check the sources; format the C files
#   make coverage asan valgrind bench dist
#   make print-VAR         print the value of a variable

all:

EXTENSION  = contactsync
MODULE_big = contactsync
DATA       = $(sort $(wildcard sql/contactsync--*.sql))
OBJS       = $(patsubst %.c,%.o,$(sort $(wildcard src/*/*.c src/*/*/*.c)))

PG_CONFIG  = pg_config
PKG_CONFIG = pkg-config
LIBRARIES  = libcurl json-c

# Only the control file states the version; PGXN requires three numbers.
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" contactsync.control)
SEMVERSION = $(EXTVERSION).0

# PostgreSQL up to 15 loads modules with RTLD_GLOBAL, and its PGDLLEXPORT has no effect: hide all symbols except those
# marked PGDLLEXPORT, and define it here. Treat server headers as system headers, because they do not pass -Wextra. Allow
# unused parameters, because the signatures of callbacks are given, initializers that leave the rest of a struct zero, and
# comparisons of lengthof() with an int, as in the server's own sources.
PG_CPPFLAGS = -Isrc -DCS_VERSION='"$(EXTVERSION)"' \
              -DPGDLLEXPORT='__attribute__((visibility("default")))' \
              -isystem $(shell $(PG_CONFIG) --includedir-server) $(shell $(PKG_CONFIG) --cflags $(LIBRARIES))
PG_CFLAGS   = -fvisibility=hidden -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare -MMD -MP
SHLIB_LINK  = $(shell $(PKG_CONFIG) --libs $(LIBRARIES))

# Bitcode would require the same clang that built the server, only to inline functions that queries rarely call.
override with_llvm = no

# pg_regress looks for sql/ and specs/ in the input directory and, up to version 15, for expected/ in the output directory.
REGRESS        := $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
ISOLATION      := $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
TAP_TESTS       = $(wildcard test/t/*.pl)
PROVE_TESTS     = $(TAP_TESTS)
CHECK_OPTS      = --inputdir=test --outputdir=. $(if $(filter-out 13 14 15,$(MAJORVERSION)),--expecteddir=.) \
                  --temp-config=test/regress.conf --encoding=UTF8 --no-locale --load-extension=contactsync
REGRESS_OPTS    = $(CHECK_OPTS) --temp-instance=./tmp_check --launcher=test/own-database.sh
ISOLATION_OPTS  = $(CHECK_OPTS) --temp-instance=./tmp_check_iso

EXTRA_CLEAN = $(OBJS:.o=.d) $(OBJS:.o=.gcno) $(OBJS:.o=.gcda) contactsync-$(SEMVERSION).zip

# PostgreSQL does not run as root.
ifeq ($(shell id -u),0)
NO_INSTALLCHECK = yes
installcheck:
	test/run.sh --installed
endif

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# set after the include, which resets it
override PROVE_FLAGS += -I test/t

-include $(OBJS:.o=.d)

.PHONY: tempcheck lint indent bench coverage asan valgrind dist
tempcheck:
	test/run.sh

lint: all
	test/lint.sh

indent:
	test/indent.sh

bench:
	test/bench/run.sh

coverage asan valgrind:
	test/run.sh --$@

dist:
	git archive --format=zip --prefix=contactsync-$(SEMVERSION)/ -o contactsync-$(SEMVERSION).zip HEAD

print-%:
	@: $(info $($*))
