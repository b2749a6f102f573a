#!/bin/sh
# Complains about lines of more than 100 characters.
found=0
for file in *.sh; do
  number=0
  while IFS= read -r line; do
    number=$((number + 1))
    if [ ${#line} -gt 100 ]; then
      echo "::warning file=$file,line=$number::this line has ${#line} characters"
      found=1
    fi
  done < "$file"
done
exit $found
