# Part of ../Makefile: puts the library where other programs find it.
#
#   make -C c_examples install                          into /usr/local; as root, after make -C c_examples all
#   make -C c_examples install PREFIX="$HOME/.local"    anywhere else
#   make -C c_examples install DESTDIR=stage-folder     for a package: the same tree below another root
#   make -C c_examples uninstall                        removes the files again; takes the same variables
#
# LIBDIR=lib/x86_64-linux-gnu is for distributions that want it so. The installed library has no debug symbols, a fifth of
# its size; STRIP= keeps them.

PREFIX ?= /usr/local
DESTDIR ?=
LIBDIR ?= lib
INSTALL ?= install
STRIP ?= strip

# Below PREFIX. UP leads from LIBDIR/pkgconfig back to it.
TO := $(DESTDIR)$(PREFIX)
UP := $(shell echo '$(LIBDIR)/pkgconfig' | sed 's|[^/][^/]*|..|g')
INSTALLED_HEADERS := $(notdir $(wildcard ../include/setun.h ../include/setun.hpp))
NOTICES := LICENSE-MIT LICENSE-APACHE LICENSE-THIRD-PARTY
TEMPLATE := sed -e 's|@VERSION@|$(VERSION)|' -e 's|@MAJOR@|$(MAJOR)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@UP@|$(UP)|'

.PHONY: absolute-prefix

# Make was told to work in c_examples: a relative path would lead from there.
absolute-prefix:
	@case '$(TO)' in /*) ;; *) echo "PREFIX and DESTDIR have to be absolute: '$(TO)'" >&2; exit 1;; esac

# Built only where it is missing, so that root needs no compiler.
install: absolute-prefix $(if $(and $(wildcard $(LIBRARY)),$(wildcard $(ARCHIVE))),,library)
	@newer=$$(find ../src ../include ../Cargo.toml -type f -newer $(LIBRARY) -print -quit); [ -z "$$newer" ] || \
	    { echo "$$newer is newer than the library: run make -C c_examples all first" >&2; exit 1; }
	$(INSTALL) -d '$(TO)/include' '$(TO)/$(LIBDIR)/pkgconfig' '$(TO)/$(LIBDIR)/cmake/Setun' '$(TO)/share/doc/setun'
	$(INSTALL) -m 755 $(LIBRARY) '$(TO)/$(LIBDIR)/libsetun.so.$(VERSION)'
	$(INSTALL) -m 644 $(ARCHIVE) '$(TO)/$(LIBDIR)/libsetun.a'
	$(if $(STRIP),$(STRIP) --strip-unneeded '$(TO)/$(LIBDIR)/libsetun.so.$(VERSION)')
	$(if $(STRIP),$(STRIP) --strip-debug '$(TO)/$(LIBDIR)/libsetun.a')
	ln -sf libsetun.so.$(VERSION) '$(TO)/$(LIBDIR)/libsetun.so.$(MAJOR)'
	ln -sf libsetun.so.$(MAJOR) '$(TO)/$(LIBDIR)/libsetun.so'
	cd ../include && $(INSTALL) -m 644 $(INSTALLED_HEADERS) '$(TO)/include'
	cd .. && $(INSTALL) -m 644 $(NOTICES) '$(TO)/share/doc/setun'
	$(TEMPLATE) install/setun.pc.in > '$(TO)/$(LIBDIR)/pkgconfig/setun.pc'
	$(TEMPLATE) install/SetunConfig.cmake.in > '$(TO)/$(LIBDIR)/cmake/Setun/SetunConfig.cmake'
	$(TEMPLATE) install/SetunConfigVersion.cmake.in > '$(TO)/$(LIBDIR)/cmake/Setun/SetunConfigVersion.cmake'
	cd '$(TO)/$(LIBDIR)' && chmod 644 pkgconfig/setun.pc cmake/Setun/SetunConfig.cmake cmake/Setun/SetunConfigVersion.cmake

# Removes what it knows, and the folders that are its own.
uninstall: absolute-prefix
	rm -f '$(TO)/$(LIBDIR)/libsetun.so.$(VERSION)' '$(TO)/$(LIBDIR)/libsetun.so.$(MAJOR)' '$(TO)/$(LIBDIR)/libsetun.so'
	rm -f '$(TO)/$(LIBDIR)/libsetun.a' '$(TO)/$(LIBDIR)/pkgconfig/setun.pc'
	rm -f '$(TO)/$(LIBDIR)/cmake/Setun/SetunConfig.cmake' '$(TO)/$(LIBDIR)/cmake/Setun/SetunConfigVersion.cmake'
	rm -f $(foreach file,setun.h setun.hpp,'$(TO)/include/$(file)')
	rm -f $(foreach file,$(NOTICES),'$(TO)/share/doc/setun/$(file)')
	for folder in '$(TO)/$(LIBDIR)/cmake/Setun' '$(TO)/share/doc/setun'; do \
	    [ ! -d "$$folder" ] || rmdir --ignore-fail-on-non-empty "$$folder"; done
