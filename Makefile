# Build contactsync with PGXS.
#
#   make, make install     build and install for the pg_config in PATH, or for PG_CONFIG=...
#   make installcheck      test the installed extension on temporary servers
#   make tempcheck         build and test in a temporary directory; nothing needs to be installed or configured
#   make lint indent       check the sources; format the C files
#   make chaos             kill processes while providers fail; ARGS="--kills 500 --changes 300000 --cells 50" is the long form
#   make mutate            break the source in many ways, one at a time, and check that the tests notice
#   make faults            let each place that allocates, runs a statement or calls a library fail once
#   make versions packages  build and test in other releases of Debian, as root; ARGS="sid" names one
#   make coverage asan valgrind fuzz bench dist
#   make print-VAR         print the value of a variable
#
# To build in another directory, run make -f /path/to/Makefile there.

all:

# the directory of the sources, with a slash, or nothing if it is the current one
TOP := $(patsubst ./%,%,$(if $(VPATH),$(VPATH)/,$(dir $(firstword $(MAKEFILE_LIST)))))

EXTENSION  = contactsync
MODULE_big = contactsync
DATA       = $(patsubst $(TOP)%,%,$(sort $(wildcard $(TOP)sql/contactsync--*.sql $(TOP)definitions/contactsync.*.json)))
OBJS       = $(patsubst $(TOP)%.c,%.o,$(sort $(wildcard $(TOP)src/*/*.c $(TOP)src/*/*/*.c)))

PG_CONFIG  = pg_config
PKG_CONFIG = pkg-config
LIBRARIES  = libcurl json-c

# Stop if something is missing: a library that is linked without the flags of curl and json-c loads into no server. The
# excepted targets install what they need.
GOALS := $(filter-out tempcheck coverage asan valgrind fuzz chaos mutate faults bench versions packages indent dist,$(or $(MAKECMDGOALS),all))
ifneq ($(GOALS),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(wildcard $(PGXS)),)
$(error "$(PG_CONFIG)" does not find the server's development files: install them (Debian: postgresql-server-dev-NN), \
or set PG_CONFIG=/path/to/pg_config)
endif
endif
ifneq ($(filter-out clean distclean uninstall print-%,$(GOALS)),)
ifneq ($(shell $(PKG_CONFIG) --exists --print-errors $(LIBRARIES) >&2 && echo found),found)
$(error "$(PKG_CONFIG)" does not find $(LIBRARIES): install it and the development files of both (Debian: pkg-config, \
libcurl4-openssl-dev and libjson-c-dev))
endif
endif

# Only the control file states the version; PGXN requires three numbers.
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(TOP)contactsync.control)
SEMVERSION = $(EXTVERSION).0

# PostgreSQL up to 15 loads modules with RTLD_GLOBAL, and its PGDLLEXPORT has no effect: hide all symbols except those
# marked PGDLLEXPORT, and define it here. Treat server headers as system headers, because they do not pass -Wextra. Allow
# unused parameters, because the signatures of callbacks are given, initializers that leave the rest of a struct zero, and
# comparisons of lengthof() with an int, as in the server's own sources.
PG_CPPFLAGS = -I$(TOP)src -DCS_VERSION='"$(EXTVERSION)"' \
              -DPGDLLEXPORT='__attribute__((visibility("default")))' \
              -isystem $(shell $(PG_CONFIG) --includedir-server) $(shell $(PKG_CONFIG) --cflags $(LIBRARIES))
PG_CFLAGS   = -fvisibility=hidden -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare -MMD -MP
SHLIB_LINK  = $(shell $(PKG_CONFIG) --libs $(LIBRARIES))

# Bitcode would require the same clang that built the server, only to inline functions that queries rarely call.
override with_llvm = no

# pg_regress looks for sql/ and specs/ in the input directory and, up to version 15, for expected/ in the output directory.
REGRESS        := $(patsubst $(TOP)test/sql/%.sql,%,$(sort $(wildcard $(TOP)test/sql/*.sql)))
ISOLATION      := $(patsubst $(TOP)test/specs/%.spec,%,$(sort $(wildcard $(TOP)test/specs/*.spec)))
TAP_TESTS       = $(wildcard test/t/*.pl)
PROVE_TESTS     = $(TAP_TESTS)
# of the databases of the tests; exported to those in test/t and to the launcher
ENCODING        = UTF8
export ENCODING
CHECK_OPTS      = --inputdir=test --outputdir=. $(if $(filter-out 13 14 15,$(MAJORVERSION)),--expecteddir=.) \
                  --temp-config=test/regress.conf --encoding=$(ENCODING) --no-locale --load-extension=contactsync
REGRESS_OPTS    = $(CHECK_OPTS) --temp-instance=./tmp_check --launcher=test/own-database.sh
ISOLATION_OPTS  = $(CHECK_OPTS) --temp-instance=./tmp_check_iso

EXTRA_CLEAN = $(OBJS:.o=.d) $(OBJS:.o=.gcno) $(OBJS:.o=.gcda) contactsync-$(SEMVERSION).zip

# PostgreSQL does not run as root, and pg_regress wants the tests in the current directory.
ifneq ($(filter 0,$(shell id -u))$(TOP),)
NO_INSTALLCHECK = yes
installcheck:
	$(TOP)test/run.sh --installed
endif

include $(PGXS)

# set after the include, which resets it
override PROVE_FLAGS += -I test/t

-include $(OBJS:.o=.d)

# absolute, so that VPATH does not find those of the sources
ifneq ($(TOP),)
ifneq ($(wildcard $(addprefix $(TOP),$(OBJS))),)
$(error $(TOP) contains objects that make would use: run make clean there)
endif
$(OBJS): | $(sort $(dir $(addprefix $(CURDIR)/,$(OBJS))))
$(CURDIR)/src/%/:
	mkdir -p $@
endif

.PHONY: tempcheck lint indent bench coverage asan valgrind fuzz chaos mutate faults versions packages dist
tempcheck:
	$(TOP)test/run.sh

# lint reads the objects beside the sources
lint: all
	$(if $(TOP),$(error run make lint in the directory of the sources),test/lint.sh)

indent:
	$(TOP)test/indent.sh

bench:
	$(TOP)test/bench/run.sh

fuzz:
	$(TOP)test/fuzz/coverage.sh

chaos:
	$(TOP)test/fuzz/chaos.sh $(ARGS)

coverage asan valgrind:
	$(TOP)test/run.sh --$@

mutate:
	$(TOP)test/mutate.sh

faults:
	$(TOP)test/faults/faults.sh

versions packages:
	$(TOP)test/$@.sh $(ARGS)

dist:
	git $(if $(TOP),-C $(TOP)) archive --format=zip --prefix=contactsync-$(SEMVERSION)/ -o $(CURDIR)/contactsync-$(SEMVERSION).zip HEAD

print-%:
	@: $(info $($*))
