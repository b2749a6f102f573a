#!/bin/sh
# Says hello in the language given.
case ${1-english} in
  english) echo "Hello, world!" ;;
  german) echo "Hallo, Welt!" ;;
  french) echo "Bonjour, tout le monde !" ;;
  *) echo "no greeting in ${1}; there are english, german and french, and more can be added right here" >&2; exit 2 ;;
esac
