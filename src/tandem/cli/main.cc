#include "tandem/cli/command.h"

int main(int argc, char** argv) { return tandem::cli::main(argc, argv); }
