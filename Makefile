# contactsync, built with PGXS.
#
#   make, make install     for the PostgreSQL of the pg_config in PATH, or of PG_CONFIG=...
#   make installcheck      test what is installed, on temporary servers
#   make tempcheck         build and test in a temporary directory; nothing needs to be installed or configured
#   make lint indent       what review should not have to look at
#   make coverage asan valgrind bench dist
#   make print-VAR         the value of a variable

all:

EXTENSION  = contactsync
MODULE_big = contactsync
DATA       = $(sort $(wildcard sql/contactsync--*.sql))
OBJS       = $(patsubst %.c,%.o,$(sort $(wildcard src/*/*.c src/*/*/*.c)))

PG_CONFIG  = pg_config
PKG_CONFIG = pkg-config
LIBRARIES  = libcurl json-c

# The control file is the only place of the version; PGXN wants three numbers.
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" contactsync.control)
SEMVERSION = $(EXTVERSION).0

# PostgreSQL up to 15 loads modules with RTLD_GLOBAL and exports nothing by itself: hide all but what says PGDLLEXPORT,
# which there has to be given its meaning. Server headers are system headers, for they do not pass -Wextra; nor do
# callbacks, whose signature is given, use all their parameters; initializers leave the rest of a struct zero, and
# lengthof() is compared with an int, as the server's own sources do.
PG_CPPFLAGS = -Isrc -DCS_VERSION='"$(EXTVERSION)"' \
              -DPGDLLEXPORT='__attribute__((visibility("default")))' \
              -isystem $(shell $(PG_CONFIG) --includedir-server) $(shell $(PKG_CONFIG) --cflags $(LIBRARIES))
PG_CFLAGS   = -fvisibility=hidden -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare -MMD -MP
SHLIB_LINK  = $(shell $(PKG_CONFIG) --libs $(LIBRARIES))

# Bitcode would need the very clang that the server was built with, to inline functions that no query calls often.
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

# after the include, which resets it
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
